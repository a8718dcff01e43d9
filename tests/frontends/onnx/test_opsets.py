"""Old operators mean in opset 23 what ONNX Runtime does for them in their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support.onnx_sources import (
    assert_canonical,
    assert_close,
    run_file,
    run_graph,
    write_node,
)

from modelc.errors import BadInput
from modelc.frontends.onnx.network import read_network
from modelc.frontends.onnx.opsets.table import CHANGES, NOT_RUN, adapter_of

RNG = np.random.default_rng(7)


def floats(*sizes: int) -> np.ndarray:
    return RNG.standard_normal(sizes).astype(np.float32)


def longs(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


@dataclass(frozen=True)
class Case:
    op_type: str
    opset: int
    inputs: dict[str, np.ndarray]
    stored: dict[str, np.ndarray] = field(default_factory=dict)
    outputs: int = 1
    order: tuple[str, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        shown = "_".join(f"{key}={value}" for key, value in self.attributes.items())
        return f"{self.op_type}-{self.opset}-{shown}"


def case(
    op_type: str, opset: int, *arrays: np.ndarray, outputs: int = 1, **attributes: Any
) -> Case:
    inputs = {f"x{index}": array for index, array in enumerate(arrays)}
    return Case(op_type, opset, inputs, outputs=outputs, attributes=attributes)


X, IMAGE = floats(2, 3, 4), floats(1, 2, 6, 5)
NORM = {"scale": floats(2), "b": floats(2), "mean": floats(2), "var": np.abs(floats(2)) + 1}
PLACES = {"scale": floats(2, 3), "b": floats(2, 3), "mean": floats(2, 3),
          "var": np.abs(floats(2, 3)) + 1}  # fmt: skip

CASES = (
    *(case(op, opset, X, **a) for op in ("Softmax", "LogSoftmax", "Hardmax")
      for opset, a in ((7, {}), (11, {"axis": 1}), (12, {"axis": -1}), (12, {"axis": -2}),
                       (7, {"axis": 0}))),
    case("Softmax", 8, floats(1, 9, 1, 1), axis=1),
    case("Softmax", 13, X),
    Case("Reshape", 7, {"x": X}, {"shape": longs(0, -1)}),
    case("Squeeze", 7, floats(1, 3, 1)),
    case("Squeeze", 7, floats(1, 3, 1), axes=[0]),
    case("Squeeze", 11, floats(1, 3, 1), axes=[-1]),
    case("Unsqueeze", 7, X, axes=[0, 2]),
    case("Unsqueeze", 11, X, axes=[-1]),
    case("Slice", 7, X, starts=[1, 0], ends=[3, 2]),
    case("Slice", 9, X, starts=[-2], ends=[1000], axes=[2]),
    case("Pad", 7, X, pads=[0, 1, 0, 2, 0, 1]),
    case("Pad", 10, X, pads=[0, 1, 0, 0, -1, 1], value=2.5),
    case("Pad", 7, X, pads=[0, 1, 0, 0, 1, 1], mode="reflect"),
    case("Pad", 7, X, pads=[0, 1, 0, 0, 1, 1], mode="edge"),
    case("Clip", 7, X, min=-0.5, max=0.25),
    case("Clip", 10, X, max=0.25),
    case("Clip", 7, X),
    case("Clip", 11, X, np.array(-0.5, np.float32)),
    case("ReduceSum", 7, X, axes=[1], keepdims=0),
    case("ReduceSum", 12, X),
    case("ReduceSum", 11, X, axes=[-1]),
    *(case(op, opset, np.abs(X) + 0.5, axes=[0, 2]) for opset in (7, 17)
      for op in ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax",
                 "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSumSquare")),
    case("ReduceMean", 13, X, keepdims=0),
    case("TopK", 7, X, k=2, outputs=2),
    case("TopK", 9, X, k=2, axis=1, outputs=2),
    case("Gemm", 7, floats(3, 4), floats(5, 4), floats(5), transB=1, alpha=0.5, beta=2.0),
    case("Dropout", 7, X, ratio=0.4),
    case("Dropout", 10, X, ratio=0.4),
    case("GlobalLpPool", 7, IMAGE, p=3),
    case("GlobalLpPool", 9, IMAGE),
    case("Split", 7, floats(2, 6), axis=1, outputs=3),
    case("Split", 11, floats(2, 6), axis=1, split=[1, 2, 3], outputs=3),
    case("Split", 13, floats(2, 6), axis=1, outputs=2),
    case("Cast", 7, X, to=onnx.TensorProto.INT32),
    case("Flatten", 9, X, axis=2),
    case("Upsample", 7, IMAGE, mode="nearest", scales=[1.0, 1.0, 2.0, 3.0]),
    case("Upsample", 7, IMAGE, mode="linear", scales=[1.0, 1.0, 2.0, 1.5]),
    Case("Upsample", 9, {"x": IMAGE}, {"s": np.array([1, 1, 2, 2], np.float32)}),
    Case("Upsample", 9, {"x": IMAGE}, {"s": np.array([1, 1, 2.5, 2], np.float32)},
         attributes={"mode": "linear"}),
    Case("Resize", 10, {"x": IMAGE}, {"s": np.array([1, 1, 0.6, 1.7], np.float32)}),
    Case("Resize", 10, {"x": IMAGE}, {"s": np.array([1, 1, 1, 1], np.float32)}),
    Case("Resize", 10, {"x": IMAGE}, {"s": np.array([1, 1, 0.6, 0.3], np.float32)},
         attributes={"mode": "linear"}),
    Case("Resize", 11, {"x": IMAGE},
         {"r": floats(0), "s": np.array([1, 1, 2, 2], np.float32)},
         attributes={"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
    Case("Resize", 11, {"x": IMAGE}, {"r": floats(0), "s": floats(0), "z": longs(1, 2, 9, 8)},
         attributes={"mode": "linear", "coordinate_transformation_mode": "align_corners"}),
    Case("Resize", 11, {"x": IMAGE}, {"r": floats(0), "s": floats(0), "z": longs(1, 2, 9, 3)},
         attributes={"coordinate_transformation_mode": "tf_half_pixel_for_nn",
                     "nearest_mode": "floor"}),
    Case("Resize", 13, {"x": IMAGE}, {"s": floats(0), "z": longs(1, 2, 12, 10)},
         order=("x", "", "s", "z"), attributes={"mode": "cubic"}),
    Case("BatchNormalization", 7, {"x": IMAGE}, NORM),
    Case("BatchNormalization", 9, {"x": IMAGE}, NORM, attributes={"epsilon": 1e-3}),
    Case("BatchNormalization", 8, {"x": floats(4, 2, 3)}, PLACES, attributes={"spatial": 0}),
    Case("Scatter", 9, {"x": X, "u": floats(1, 3, 4)}, {"i": np.ones((1, 3, 4), np.int64)},
         order=("x", "i", "u")),
    case("GridSample", 16, IMAGE, np.clip(floats(1, 3, 3, 2), -1, 1), mode="bicubic"),
    case("GridSample", 16, IMAGE, np.clip(floats(1, 3, 3, 2), -1, 1)),
    case("GroupNormalization", 18, floats(2, 6, 4), floats(3), floats(3), num_groups=3,
         epsilon=0.01),
    case("DFT", 17, floats(1, 8, 3, 1), axis=1),
    case("DFT", 17, floats(1, 8, 3, 1)),
    case("Swish", 24, X, alpha=1.5),
    case("Attention", 24, floats(1, 2, 3, 8), floats(1, 2, 3, 8), floats(1, 2, 3, 8)),
)  # fmt: skip


@pytest.mark.parametrize("each", CASES, ids=str)
def test_agrees_with_onnx_runtime_on_the_original(each: Case, tmp_path: Path) -> None:
    path = write_node(
        tmp_path / "old.onnx", each.op_type, each.opset, each.inputs, stored=each.stored,
        outputs=each.outputs, order=each.order, **each.attributes,
    )  # fmt: skip
    model = read_network(path)
    assert_canonical(model)
    onnx.checker.check_model(onnx.load(_saved(model, tmp_path)), full_check=True)
    assert_close(run_graph(model, each.inputs, tmp_path), run_file(path, each.inputs))


def test_a_range_up_to_a_list_of_one(tmp_path: Path) -> None:
    nodes = [
        onnx.helper.make_node("Shape", ["x"], ["sizes"]),
        onnx.helper.make_node("Slice", ["sizes", "one", "two"], ["width"]),
        onnx.helper.make_node("Range", ["zero", "width", "step"], ["places"]),
        onnx.helper.make_node("Cast", ["places"], ["floats"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Add", ["x", "floats"], ["y"]),
    ]
    kind = onnx.helper.make_tensor_value_info
    stored = {"one": longs(1), "two": longs(2), "zero": np.int64(0), "step": np.int64(1)}
    graph = onnx.helper.make_graph(
        nodes,
        "range",
        [kind("x", onnx.TensorProto.FLOAT, [2, 5])],
        [kind("y", onnx.TensorProto.FLOAT, [2, 5])],
        [onnx.numpy_helper.from_array(np.asarray(a), name) for name, a in stored.items()],
    )
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), tmp_path / "x")
    inputs = {"x": floats(2, 5)}
    model = read_network(tmp_path / "x")
    assert_close(run_graph(model, inputs, tmp_path), run_file(tmp_path / "x", inputs))


def _saved(model: Any, folder: Path) -> str:
    import onnx_ir as ir

    ir.save(model, folder / "saved.onnx")
    return str(folder / "saved.onnx")


def changed() -> Iterator[tuple[str, int]]:
    """Operators whose definition between opsets 7 and 23 lost or renamed something, or gave an
    attribute another default, with the opset that did."""
    history: dict[str, dict[int, Any]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            history.setdefault(schema.name, {})[schema.since_version] = schema
    for name, versions in history.items():
        older = [version for version in versions if version <= 7]
        steps = sorted(version for version in versions if 7 < version <= 23)
        last = versions[max(older)] if older else None
        for step in steps:
            schema = versions[step]
            if last is not None and (schema.deprecated or _loses(last, schema)):
                yield name, step
            last = None if schema.deprecated else schema


def _loses(old: Any, new: Any) -> bool:
    for name, attribute in old.attributes.items():
        if name not in new.attributes:
            return True
        was, now = attribute.default_value, new.attributes[name].default_value
        if was.SerializeToString() != now.SerializeToString():
            return True
    return len(new.outputs) < len(old.outputs) or len(new.inputs) < len(old.inputs)


@pytest.mark.parametrize(("name", "step"), sorted(set(changed())))
def test_every_change_of_the_definitions_has_an_adapter(name: str, step: int) -> None:
    assert adapter_of(name, step - 1) is not None


def test_adapters_end_where_the_operator_changed() -> None:
    for name, change in CHANGES.items():
        assert adapter_of(name, change.since - 1) is not None
        assert adapter_of(name, change.since) is None


@pytest.mark.parametrize(
    ("op_type", "opset", "attributes", "message"),
    [
        ("Softmax", 13, {"axes": [1]}, "isn't used as opset 13 defines it"),
        ("Softmax", 13, {"axis": 1.5}, "isn't used as opset 13 defines it"),
        ("Upsample", 13, {}, "is no operator of opset 13"),
        ("Gelu", 13, {}, "is no operator of opset 13"),
        ("Nonsense", 17, {}, "is no operator of opset 17"),
        ("Resize", 11, {}, "isn't used as opset 11 defines it"),
        ("BitCast", 26, {"to": 6}, "is more than opset 23 has"),
    ],
)
def test_what_cannot_be_brought_to_23_is_refused(
    op_type: str, opset: int, attributes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = write_node(tmp_path / "x.onnx", op_type, opset, {"x": X}, **attributes)
    with pytest.raises(BadInput, match=message) as caught:
        read_network(path)
    assert caught.value.where.module == "the_node"
    assert caught.value.hint


def test_what_only_training_gives_is_refused(tmp_path: Path) -> None:
    norm = write_node(
        tmp_path / "x.onnx", "BatchNormalization", 9, {"x": IMAGE}, stored=NORM, outputs=3
    )
    with pytest.raises(BadInput, match="statistics of training"):
        read_network(norm)
    with pytest.raises(BadInput, match="asked for its mask"):
        read_network(write_node(tmp_path / "y.onnx", "Dropout", 10, {"x": X}, outputs=2))


@pytest.mark.parametrize("opset", [7, 23])
def test_random_numbers_are_refused(opset: int, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="gives random numbers"):
        read_network(write_node(tmp_path / "x.onnx", "RandomNormalLike", opset, {"x": X}))


def test_every_operator_that_is_left_has_a_kernel_in_onnx_runtime() -> None:
    from onnxruntime.capi.onnxruntime_pybind11_state import get_all_opkernel_def

    kernels: dict[str, list[tuple[int, int]]] = {}
    for kernel in get_all_opkernel_def():
        if kernel.domain == "" and kernel.provider == "CPUExecutionProvider":
            kernels.setdefault(kernel.op_name, []).append(kernel.version_range)
    for schema in onnx.defs.get_all_schemas():
        name = schema.name
        if schema.domain or name in NOT_RUN or name not in kernels:
            continue  # those without a kernel are defined by others
        try:
            since = onnx.defs.get_schema(name, 23).since_version
        except onnx.defs.SchemaError:
            continue
        # A kernel without an end stands for the one version that it names.
        assert schema.deprecated or any(
            first == since or first <= since <= last < 1 << 30 for first, last in kernels[name]
        ), name


def test_scales_from_data_are_refused(tmp_path: Path) -> None:
    feeds = {"x": IMAGE, "s": np.array([1, 1, 2, 2], np.float32)}
    with pytest.raises(BadInput, match="scales that are computed from data"):
        read_network(write_node(tmp_path / "x.onnx", "Upsample", 9, feeds))
