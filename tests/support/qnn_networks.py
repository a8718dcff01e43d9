"""Small networks as ONNX files, and what they give on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from modelc.ir.provenance import MODULE
from modelc.targets.snapdragon.compile import CompileOptions
from modelc.targets.snapdragon.network.options import NetworkOptions

CHIPSET = "snapdragon-8-elite"
TIMEOUT = 120.0
FLOAT = NetworkOptions(CompileOptions(fp16=True, finalization=1))
QUANTISED = NetworkOptions(CompileOptions(finalization=1))
FLOAT32 = TensorProto.FLOAT

Ports = dict[str, tuple[int, list[int]]]


def save(
    path: Path, nodes: Sequence[Any], inputs: Ports, outputs: Ports, weights: dict[str, Any]
) -> Path:
    """Write a network whose nodes have the module path "net." and their name."""
    for node in nodes:
        node.metadata_props.add(key=MODULE, value=f"net.{node.name}")
    graph = helper.make_graph(
        nodes,
        "main",
        [helper.make_tensor_value_info(name, *port) for name, port in inputs.items()],
        [helper.make_tensor_value_info(name, *port) for name, port in outputs.items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    domains = {"": 21, **{node.domain: 1 for node in nodes if node.domain}}
    opsets = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.save(onnx.shape_inference.infer_shapes(model), str(path))
    return path


def weight(*shape: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed + sum(shape))
    return (random.standard_normal(shape) * 0.2).astype(np.float32)


def write_cnn(folder: Path) -> Path:
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w1", "b1"], ["y"], "head"),
    ]
    weights = {"w0": weight(8, 3, 3, 3), "b0": weight(8), "w1": weight(8, 10), "b1": weight(10)}
    inputs = {"x": (FLOAT32, [1, 3, 16, 16])}
    return save(folder / "cnn.onnx", nodes, inputs, {"y": (FLOAT32, [1, 10])}, weights)


def write_encoder(folder: Path, name: str = "encoder", activation: str = "Gelu") -> Path:
    """Token ids and a mask in; hidden states, whole and as whole numbers, out."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"], "embed"),
        helper.make_node("Cast", ["mask"], ["m"], "mask", to=FLOAT32),
        helper.make_node("MatMul", ["e", "w"], ["mm"], "proj"),
        helper.make_node("Add", ["mm", "b"], ["a"], "bias"),
        helper.make_node("Transpose", ["a"], ["at"], "keys", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["a", "at"], ["s"], "scores"),
        helper.make_node("Add", ["s", "m"], ["sm"], "masked"),
        helper.make_node("Softmax", ["sm"], ["p"], "softmax", axis=-1),
        helper.make_node("MatMul", ["p", "a"], ["c"], "context"),
        helper.make_node(activation, ["c"], ["g"], "activation"),
        helper.make_node("LayerNormalization", ["g", "lw", "lb"], ["y"], "norm", axis=-1),
        helper.make_node("ArgMax", ["y"], ["best"], "best", axis=-1, keepdims=0),
    ]
    weights = {"table": weight(50, 16), "w": weight(16, 16), "b": weight(16)}
    weights |= {"lw": weight(16, seed=1), "lb": weight(16, seed=2)}
    inputs = {"ids": (TensorProto.INT64, [1, 8]), "mask": (TensorProto.BOOL, [1, 1, 8])}
    outputs = {"y": (FLOAT32, [1, 8, 16]), "best": (TensorProto.INT64, [1, 8])}
    return save(folder / f"{name}.onnx", nodes, inputs, outputs, weights)


def write_quantised(folder: Path, name: str = "quantised", middle: str = "Relu") -> Path:
    """A Conv and another operator with uint8 codes around them, float in and out."""
    pairs = (("x", "x"), ("c", "c"), ("r", "r"))
    nodes = [helper.make_node("DequantizeLinear", ["wq", "ws", "wz"], ["wd"], "w.dq", axis=0)]
    for value, scale in pairs:
        codes, back = f"{value}q", "y" if value == "r" else f"{value}d"
        quantise = [value, f"{scale}s", "zero"], [codes], f"{value}.q"
        dequantise = [codes, f"{scale}s", "zero"], [back], f"{value}.dq"
        nodes.append(helper.make_node("QuantizeLinear", *quantise))
        nodes.append(helper.make_node("DequantizeLinear", *dequantise))
    conv = helper.make_node("Conv", ["xd", "wd"], ["c"], "conv", pads=[1, 1, 1, 1])
    nodes.insert(3, conv)
    nodes.insert(6, helper.make_node(middle, ["cd"], ["r"], "middle"))
    random = np.random.default_rng(5)
    weights = {
        "wq": random.integers(-100, 100, (8, 3, 3, 3)).astype(np.int8),
        "ws": np.full(8, 0.002, np.float32),
        "wz": np.zeros(8, np.int8),
        "zero": np.uint8(128),
        **{f"{value}s": np.float32(scale) for value, scale in (("x", 0.03), ("c", 0.06))},
        "rs": np.float32(0.06),
    }
    inputs, outputs = {"x": (FLOAT32, [1, 3, 8, 8])}, {"y": (FLOAT32, [1, 8, 8, 8])}
    return save(folder / f"{name}.onnx", nodes, inputs, outputs, weights)


def feed_of(model: Path, seed: int = 0) -> dict[str, np.ndarray]:
    """Return random inputs for a network."""
    random = np.random.default_rng(seed)
    feed = {}
    for value in onnx.load(str(model)).graph.input:
        tensor = value.type.tensor_type
        shape = [dim.dim_value for dim in tensor.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        floats = random.standard_normal(shape)
        whole = random.integers(0, 2 if dtype == np.bool_ else 50, shape)
        feed[value.name] = (floats if dtype == np.float32 else whole).astype(dtype)
    return feed


def on_cpu(model: Path, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return what ONNX Runtime's own CPU provider makes of a feed."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))
