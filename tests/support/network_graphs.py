"""Small networks for the passes over them, and their numbers on ONNX Runtime."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx import helper, numpy_helper

from modelc.ir.provenance import set_module
from modelc.passes.base import run_passes
from modelc.passes.pipelines import build_pipeline

OPSET = 23
Feeds = Mapping[str, np.ndarray]


def node(op_type: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """node("Add", "a b", "c"); "_" is an input or output that is left out."""
    names = [["" if n == "_" else n for n in text.split()] for text in (inputs, outputs)]
    name = next(n for n in names[1] if n)
    return helper.make_node(op_type, *names, name=f"{name}_node", **attributes)


def network(
    nodes: Sequence[onnx.NodeProto],
    inputs: Feeds,
    outputs: str,
    constants: Mapping[str, Any] | None = None,
) -> ir.Model:
    """Return a network as the frontends make it; inputs have the sizes and types of `inputs`."""
    graph = helper.make_graph(
        nodes,
        "network",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
            )
            for name, array in inputs.items()
        ],
        [helper.make_empty_tensor_value_info(name) for name in outputs.split()],
        [
            numpy_helper.from_array(np.asarray(array), name)
            for name, array in (constants or {}).items()
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=11)
    return canonical(proto)


def canonical(proto: onnx.ModelProto) -> ir.Model:
    """Return a model with static sizes; each node's module path is its name."""
    given = {tensor.name for tensor in proto.graph.initializer}
    kept = [value for value in proto.graph.input if value.name not in given]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    proto = onnx.shape_inference.infer_shapes(proto, data_prop=True, strict_mode=True)
    model = ir.serde.deserialize_model(proto)
    for index, made in enumerate(model.graph):
        made.name = made.name or f"node_{index}"
        set_module(made, made.name.removesuffix("_node"))
    return model


def run(model: ir.Model, feeds: Feeds) -> dict[str, np.ndarray]:
    """Run a model on ONNX Runtime's CPU as it is."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    proto = ir.serde.serialize_model(model).SerializeToString()
    session = ort.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    taken = {value.name: feeds[value.name] for value in session.get_inputs()}
    return dict(zip(names, session.run(names, taken), strict=True))


def lower(model: ir.Model, *rows: str) -> ir.Model:
    """Return what rows of PIPELINES make of a model, which stays as it is."""
    model = model.clone()
    for row in rows:
        model, _ = run_passes(model, build_pipeline(row, {}), graph=row)
    return model


def assert_same(
    before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray], within: float = 1e-5
) -> None:
    """Compare outputs by name, relative to the largest number of each."""
    assert list(before) == list(after)
    for name, expected in before.items():
        found = after[name]
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype), name
        if expected.dtype.kind != "f":
            assert np.array_equal(expected, found), name
            continue
        finite = np.isfinite(expected)
        assert np.array_equal(expected[~finite], found[~finite], equal_nan=True), name
        largest = np.abs(expected[finite]).max(initial=1e-9)
        difference = np.abs(expected[finite] - found[finite]).max(initial=0)
        assert difference <= within * largest, name


def operators(model: ir.Model) -> list[str]:
    return [made.op_type for made in model.graph]


def normal(*sizes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(sizes).astype(np.float32)


# Inputs by which sizes are computed: constants in any network whose sizes are static.
_PARAMETERS: Mapping[str, tuple[int, ...]] = {
    "AffineGrid": (1,), "CenterCropPad": (1,), "Clip": (1, 2), "Col2Im": (1, 2),
    "ConstantOfShape": (0,), "Conv": (1, 2), "ConvTranspose": (1, 2), "CumSum": (1,),
    "DFT": (1, 2), "Dropout": (1, 2), "Expand": (1,), "Gemm": (2,), "OneHot": (1, 2),
    "Pad": (1, 2, 3), "Range": (0, 1, 2), "ReduceL1": (1,), "ReduceL2": (1,),
    "ReduceLogSum": (1,), "ReduceLogSumExp": (1,), "ReduceMax": (1,), "ReduceMean": (1,),
    "ReduceMin": (1,), "ReduceProd": (1,), "ReduceSum": (1,), "ReduceSumSquare": (1,),
    "Reshape": (1,), "Resize": (1, 2, 3), "ReverseSequence": (1,), "Slice": (1, 2, 3, 4),
    "Split": (1,), "Squeeze": (1,), "Tile": (1,), "TopK": (1,), "Trilu": (1,),
    "Unsqueeze": (1,), "Compress": (1,),
}  # fmt: skip
_KNOWN = {"float32", "int64", "int32", "bool", "uint8", "int8"}


def node_cases() -> dict[str, tuple[ir.Model, Feeds]]:
    """Return the onnx package's own tests of single operators, as far as they are of opset 23 and
    of types that networks have."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        collected = collect_testcases(None)
    cases = {}
    for case in collected:
        found = _as_network(case) if case.model is not None else None
        if found is not None:
            cases[case.name.removeprefix("test_")] = found
    return cases


def _as_network(case: Any) -> tuple[ir.Model, Feeds] | None:
    proto, data = onnx.ModelProto(), case.data_sets
    proto.CopyFrom(case.model)
    graph = proto.graph
    if not data or len(graph.node) != 1 or graph.node[0].domain not in ("", "ai.onnx"):
        return None
    if not all(isinstance(a, np.ndarray | np.generic) for side in data[0] for a in side):
        return None
    inputs, outputs = ([np.asarray(array) for array in side] for side in data[0])
    if {str(array.dtype) for array in (*inputs, *outputs)} - _KNOWN or not _is_current(proto):
        return None
    only = graph.node[0]
    fixed = {only.input[i] for i in _PARAMETERS.get(only.op_type, ()) if i < len(only.input)}
    feeds: dict[str, np.ndarray] = {}
    for value, array in zip(graph.input, inputs, strict=True):
        if value.name in fixed:
            graph.initializer.append(numpy_helper.from_array(array, value.name))
        else:
            feeds[value.name] = array
    for value, array in zip((*graph.input, *graph.output), (*inputs, *outputs), strict=True):
        element = value.type.tensor_type.elem_type
        value.type.CopyFrom(helper.make_tensor_type_proto(element, array.shape))
    only.name = "tested_node"
    try:
        return canonical(proto), feeds
    except Exception:  # the test is of a model that shape inference refuses
        return None


def _is_current(proto: onnx.ModelProto) -> bool:
    """Whether the operator means in opset 23 what it means in the test's; makes it of that one."""
    only, version = proto.graph.node[0], proto.opset_import[0].version
    try:
        schema = onnx.defs.get_schema(only.op_type, OPSET, "")
        own = onnx.defs.get_schema(only.op_type, version, "")
    except onnx.defs.SchemaError:
        return False
    attributes = {attribute.name for attribute in only.attribute}
    if schema.deprecated or attributes - set(schema.attributes):
        return False
    if len(only.input) > schema.max_input or own.since_version < schema.since_version:
        return False
    proto.opset_import[0].version = OPSET
    proto.ir_version = 11
    return True


LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"


def light(name: str) -> ir.Model:
    """Return one of the onnx package's image classifiers, whose weights are few bytes."""
    from onnx import version_converter

    return canonical(version_converter.convert_version(onnx.load(LIGHT / name), OPSET))
