"""A small image classifier as exporters of PyTorch write it, and samples for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES, SIZE = 10, 16


def write_classifier(path: Path, seed: int = 0, last: str = "Softmax") -> Path:
    """Write conv, batch norm, relu, pool, gemm and `last`; the batch is open."""
    random = np.random.default_rng(seed)

    def weight(name: str, *shape: int, scale: float = 0.3) -> onnx.TensorProto:
        return numpy_helper.from_array((random.normal(size=shape) * scale).astype("f"), name)

    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c"], "/features/0/Conv", pads=[1, 1, 1, 1]),
        helper.make_node(
            "BatchNormalization", ["c", "g", "b", "m", "v"], ["n"], "/features/1/BatchNormalization"
        ),
        helper.make_node("Relu", ["n"], ["r"], "/features/2/Relu"),
        helper.make_node(
            "MaxPool", ["r"], ["p"], "/features/3/MaxPool", kernel_shape=[2, 2], strides=[2, 2]
        ),
        helper.make_node("GlobalAveragePool", ["p"], ["a"], "/pool/GlobalAveragePool"),
        helper.make_node("Flatten", ["a"], ["f"], "/Flatten"),
        helper.make_node("Gemm", ["f", "w2", "b2"], ["logits"], "/classifier/Gemm", transB=1),
        helper.make_node(last, ["logits"], ["y"], f"/head/{last}"),
    ]
    variance = numpy_helper.from_array(np.abs(random.normal(size=8)).astype("f") + 0.5, "v")
    weights = [
        *(weight("w1", 8, 3, 3, 3), *(weight(name, 8) for name in ("b1", "g", "b", "m"))),
        *(variance, weight("w2", CLASSES, 8, scale=2), weight("b2", CLASSES)),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", CLASSES])],
        weights,
    )
    opsets = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))
    return path


def images(count: int, seed: int = 1) -> np.ndarray:
    """Return float32 [count, 1, 3, SIZE, SIZE]."""
    random = np.random.default_rng(seed)
    return random.normal(size=(count, 1, 3, SIZE, SIZE)).astype("f")


def write_samples(path: Path, count: int = 16, seed: int = 1) -> Path:
    np.savez(path, x=images(count, seed))
    return path
