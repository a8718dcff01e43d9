"""Small detectors whose outputs' sizes depend on what they see, as exporters write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE, CELLS, CLASSES = 16, 64, 3


def write_detector(path: Path) -> Path:
    """Write a detector of one scale, whose boxes go through NonMaxSuppression; the batch is open.

    It gives boxes [num, 4], scores [num] and labels [num].
    """
    node = helper.make_node
    slices = {name: np.array([value]) for name, value in zip("abcd", (0, 1, 2, 3), strict=True)}
    stored = {
        **_backbone(),
        **slices,
        "most": np.array([10]),
        "overlap": np.array([0.5], np.float32),
        "least": np.array([0.55], np.float32),
    }
    nodes = [
        *_head(),
        node("NonMaxSuppression", ["all_boxes", "all_scores", "most", "overlap", "least"],
             ["kept"], "/nms/NonMaxSuppression"),
        node("Slice", ["kept", "c", "d", "b"], ["at"], "/nms/Slice"),
        node("Squeeze", ["at", "b"], ["index"], "/nms/Squeeze"),
        node("Squeeze", ["all_boxes", "a"], ["plain"], "/nms/Squeeze_1"),
        node("Gather", ["plain", "index"], ["boxes"], "/nms/Gather"),
        node("GatherND", ["all_scores", "kept"], ["scores"], "/nms/GatherND"),
        node("Slice", ["kept", "b", "c", "b"], ["class"], "/nms/Slice_1"),
        node("Squeeze", ["class", "b"], ["labels"], "/nms/Squeeze_2"),
    ]  # fmt: skip
    outputs = [("boxes", TensorProto.FLOAT, ["num", 4]), ("scores", TensorProto.FLOAT, ["num"]),
               ("labels", TensorProto.INT64, ["num"])]  # fmt: skip
    return _save(path, nodes, outputs, stored)


def write_proposals(path: Path) -> Path:
    """Write what torchvision's region proposals become: scores above a threshold, of these the
    best, as many as there are and 20 at most, and an If for when there is none."""
    node = helper.make_node
    stored = {**_backbone(), "least": np.array(0.6, np.float32), "flat": np.array([-1]),
              "most": np.array([20]), "none": np.array(0), "first": np.array([0])}  # fmt: skip
    some = helper.make_graph(
        [node("Add", ["picked", "one"], ["shifted"]), node("Mul", ["shifted", "top"], ["z"])],
        "some", [], [onnx.ValueInfoProto(name="z")],
        [numpy_helper.from_array(np.array(1, np.float32), "one")],
    )  # fmt: skip
    nothing = helper.make_graph(
        [node("Slice", ["all_scores_flat", "first", "first"], ["z"])],
        "nothing", [], [onnx.ValueInfoProto(name="z")],
    )  # fmt: skip
    nodes = [
        *_head(),
        node("Reshape", ["all_scores", "flat"], ["all_scores_flat"], "/rpn/Reshape"),
        node("ReduceMax", ["all_scores_flat"], ["top"], "/rpn/ReduceMax", keepdims=0),
        node("Greater", ["all_scores_flat", "least"], ["high"], "/rpn/Greater"),
        node("NonZero", ["high"], ["places"], "/rpn/NonZero"),
        node("Reshape", ["places", "flat"], ["place"], "/rpn/Reshape_1"),
        node("Gather", ["all_scores_flat", "place"], ["picked_all"], "/rpn/Gather"),
        node("Shape", ["picked_all"], ["count"], "/rpn/Shape"),
        node("Min", ["count", "most"], ["k"], "/rpn/Min"),
        node("TopK", ["picked_all", "k"], ["picked", "rank"], "/rpn/TopK"),
        node("Size", ["picked"], ["size"], "/rpn/Size"),
        node("Greater", ["size", "none"], ["any"], "/rpn/Greater_1"),
        node("If", ["any"], ["best"], "/rpn/If", then_branch=some, else_branch=nothing),
    ]
    return _save(path, nodes, [("best", TensorProto.FLOAT, ["k"])], stored)


def images(count: int, seed: int = 1) -> np.ndarray:
    """Return float32 [count, 1, 3, SIZE, SIZE]."""
    random = np.random.default_rng(seed)
    return random.normal(size=(count, 1, 3, SIZE, SIZE)).astype(np.float32)


def _backbone() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)

    def weight(*sizes: int, scale: float) -> np.ndarray:
        return (random.normal(size=sizes) * scale).astype(np.float32)

    places = np.stack(np.meshgrid(np.arange(8), np.arange(8)), -1).reshape(1, CELLS, 2)
    return {
        "w0": weight(16, 3, 3, 3, scale=0.2), "w1": weight(16, 16, 3, 3, scale=0.1),
        "w2": weight(4, 16, 1, 1, scale=0.1), "b2": np.array([0, 0, 3, 3], np.float32),
        "w3": weight(CLASSES, 16, 1, 1, scale=0.8), "centres": (places * 2 + 1).astype(np.float32),
        "as_boxes": np.array([1, 4, CELLS]), "as_scores": np.array([1, CLASSES, CELLS]),
    }  # fmt: skip


def _head() -> list[Any]:
    node = helper.make_node
    return [
        node("Conv", ["x", "w0"], ["c0"], "/backbone/0/Conv", pads=[1] * 4, strides=[2, 2]),
        node("Relu", ["c0"], ["r0"], "/backbone/0/Relu"),
        node("Conv", ["r0", "w1"], ["c1"], "/backbone/1/Conv", pads=[1] * 4),
        node("Relu", ["c1"], ["r1"], "/backbone/1/Relu"),
        node("Conv", ["r1", "w2", "b2"], ["f0"], "/boxes/Conv"),
        node("Reshape", ["f0", "as_boxes"], ["f1"], "/boxes/Reshape"),
        node("Transpose", ["f1"], ["f2"], "/boxes/Transpose", perm=[0, 2, 1]),
        node("Split", ["f2"], ["shift", "reach"], "/boxes/Split", axis=2, num_outputs=2),
        node("Add", ["shift", "centres"], ["centre"], "/boxes/Add"),
        node("Sub", ["centre", "reach"], ["low"], "/boxes/Sub"),
        node("Add", ["centre", "reach"], ["high_"], "/boxes/Add_1"),
        node("Concat", ["low", "high_"], ["all_boxes"], "/boxes/Concat", axis=2),
        node("Conv", ["r1", "w3"], ["s0"], "/scores/Conv"),
        node("Reshape", ["s0", "as_scores"], ["s1"], "/scores/Reshape"),
        node("Sigmoid", ["s1"], ["all_scores"], "/scores/Sigmoid"),
    ]


def _save(
    path: Path,
    nodes: list[Any],
    outputs: list[tuple[str, int, list[Any]]],
    stored: dict[str, np.ndarray],
) -> Path:
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info(*output) for output in outputs],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))
    return path
