"""ONNX files as people have them, and how ONNX Runtime runs them as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper

Arrays = Mapping[str, np.ndarray]


def tensor_type(name: str, array: np.ndarray | None, sizes: Sequence[Any] | None = None) -> Any:
    """An input or output like an array, or of float32 and open sizes."""
    kind = TensorProto.FLOAT if array is None else helper.np_dtype_to_tensor_dtype(array.dtype)
    return helper.make_tensor_value_info(name, kind, sizes if array is None else array.shape)


def write_node(
    path: Path,
    op_type: str,
    opset: int,
    inputs: Arrays,
    *,
    stored: Arrays = MappingProxyType({}),
    outputs: int = 1,
    order: Sequence[str] = (),
    **attributes: Any,
) -> Path:
    """Write a graph of one node in an old opset.

    Args:
        inputs, stored: what it reads from outside, and from initialisers.
        order: of its inputs ("" where one is left out), if not as given.
    """
    names = [f"y{index}" for index in range(outputs)]
    node = helper.make_node(
        op_type, list(order or [*inputs, *stored]), names, name="the_node", **attributes
    )
    graph = helper.make_graph(
        [node],
        "graph",
        [tensor_type(name, array) for name, array in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in names],
        [onnx.numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    return write_graph(path, graph, opset)


def write_graph(path: Path, graph: onnx.GraphProto, opset: int = 23, **more: Any) -> Path:
    imports = [helper.make_opsetid("", opset), *more.pop("imports", [])]
    version = 3 if opset < 9 else 8 if opset < 19 else 11
    model = helper.make_model(graph, opset_imports=imports, ir_version=version, **more)
    if version == 3:  # every initialiser is an input as well
        for tensor in model.graph.initializer:
            model.graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    path.write_bytes(model.SerializeToString())
    return path


def run_file(path: Path, feeds: Arrays) -> dict[str, np.ndarray]:
    """Run a file on ONNX Runtime as it is, nothing fused."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def run_graph(model: ir.Model, feeds: Arrays, folder: Path) -> dict[str, np.ndarray]:
    """Run a canonical graph, whose external weights lie under `folder`."""
    path = folder / "canonical.onnx"
    ir.save(model, path)
    return run_file(path, feeds)


def feeds_of(model: ir.Model, seed: int = 0) -> dict[str, np.ndarray]:
    """Random inputs of a canonical graph."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for value in model.graph.inputs:
        assert value.shape is not None and value.dtype is not None
        numbers = rng.standard_normal(tuple(value.shape.numpy()))
        whole = not value.dtype.is_floating_point()
        feeds[str(value.name)] = (np.abs(numbers) if whole else numbers).astype(value.dtype.numpy())
    return feeds


def assert_close(got: Arrays, wanted: Arrays, tolerance: float = 1e-6) -> None:
    """Floats agree relative to the largest magnitude; all else is the same."""
    assert list(got) == list(wanted)
    for name, want in wanted.items():
        assert got[name].dtype == want.dtype and got[name].shape == want.shape, name
        if want.dtype.kind != "f":
            np.testing.assert_array_equal(got[name], want, name)
            continue
        finite = np.isfinite(want)
        np.testing.assert_array_equal(finite, np.isfinite(got[name]), name)
        largest = np.abs(want[finite]).max(initial=0)
        off = np.abs(got[name][finite] - want[finite]).max(initial=0)
        assert off <= tolerance * largest, f"{name} is off by {off / largest}"


def assert_canonical(model: ir.Model) -> None:
    """Everything that is promised of a canonical network."""
    assert model.opset_imports[""] == 23
    assert not model.functions
    nodes = list(model.graph.all_nodes())
    assert len({node.name for node in nodes}) == len(nodes)
    assert all(node.metadata_props["modelc.module"] for node in nodes)
    values = [value for node in model.graph for value in node.outputs if value.name]
    values += [*model.graph.inputs, *model.graph.initializers.values()]
    assert len({value.name for value in values}) == len(values)
    for value in values:
        assert value.dtype is not None, value.name
        assert value.shape is not None and value.shape.is_static(), value.name
    made = {*model.graph.inputs, *model.graph.initializers.values(), None}
    for node in model.graph:
        assert made.issuperset(node.inputs), node.name
        made.update(node.outputs)
