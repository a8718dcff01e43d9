"""ONNX Runtime in the card's place: the bodies of the card's operators, states on this machine.

ONNX Runtime refuses indices beyond a tensor, which the card passes over. So each state has one
position more than the context: padding is written there, and nothing ever looks at it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx_ir as ir

from modelc.errors import BadInput, Damaged, Where
from modelc.ir.emit import dims_of
from modelc.ir.onnx_file import check_data, read_proto
from modelc.targets.qaic.engine import CallShapes
from modelc.targets.qaic.sampled import LOGITS

STATE: Final = "_RetainedState"
_NOWHERE: Final = int(np.iinfo(np.int32).max)
_TYPES: Final[Mapping[ir.DataType, type]] = {
    ir.DataType.FLOAT: np.float32,
    ir.DataType.BOOL: np.bool_,
}


class OnnxEngine:
    """A graph of the card's contract on ONNX Runtime's CPU (`Engine`)."""

    name = "onnxruntime"

    def __init__(self, path: Path, shapes: CallShapes, threads: int = 0) -> None:
        """Load a graph, its weights beside it; `threads` 0 is one for each physical core.

        Raises:
            BadInput: no such graph, or its weights are not whole.
            Damaged: ONNX Runtime can't load it.
        """
        import onnxruntime as ort

        model = load_card_graph(path)
        self._session = open_session(model, path, threads)
        outputs = [output.name for output in self._session.get_outputs()]
        self._states = {
            name: ort.OrtValue.ortvalue_from_numpy(array)
            for name, array in zero_states(model, shapes).items()
        }
        self._results = [name for name in outputs if not name.endswith(STATE)]
        names = {argument.name for argument in self._session.get_inputs()}
        self.inputs = frozenset(names - self._states.keys())

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run a call; the states it leaves are those of the next one."""
        import onnxruntime as ort

        binding = self._session.io_binding()
        for name, array in feeds.items():
            value = ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
            binding.bind_ortvalue_input(name, value)
        for name, value in self._states.items():
            binding.bind_ortvalue_input(name, value)
        for name in (*self._results, *(f"{name}{STATE}" for name in self._states)):
            binding.bind_output(name)
        self._session.run_with_iobinding(binding)
        values = binding.get_outputs()
        count = len(self._results)
        self._states = dict(zip(self._states, values[count:], strict=True))
        found = zip(self._results, values[:count], strict=True)
        return {name: value.numpy() for name, value in found}

    def run_all(self, calls: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
        """Run calls one after the other."""
        return [self.run(feeds) for feeds in calls]

    def close(self) -> None:
        del self._session, self._states


def within_bounds(model: ir.Model) -> None:
    """Change the indices that the card passes over to ones that a tensor has: what is read there
    is never looked at, and what is written there goes to the last position."""
    for node in model.graph:
        if node.op_type != "Where":
            continue
        for place, value in enumerate(node.inputs):
            if value is not None and _is_nowhere(value):
                writes = _feeds_scatter(node.outputs[0])
                dtype = value.dtype or ir.DataType.INT64
                number = ir.tensor([-1 if writes else 0], dtype=dtype).numpy().reshape(())
                name = f"{value.name}.{'written' if writes else 'read'}"
                new = model.graph.initializers.get(name) or _constant(name, number)
                model.graph.initializers[name] = new
                node.replace_input_with(place, new)


def _constant(name: str, number: np.ndarray) -> ir.Value:
    tensor = ir.Tensor(number, name=name)
    return ir.Value(
        name=name, shape=ir.Shape([]), type=ir.TensorType(tensor.dtype), const_value=tensor
    )


def _is_nowhere(value: ir.Value) -> bool:
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is None or tensor.size != 1 or not tensor.dtype.is_integer():
        return False
    return int(tensor.numpy().item()) == _NOWHERE


def _feeds_scatter(value: ir.Value) -> bool:
    """Whether a value is where a scatter writes, perhaps after a change of type or shape."""
    for node in value.consumers():
        if "Scatter" in node.op_type:
            return True
        moved = node.op_type in ("Cast", "Unsqueeze", "Reshape", "Expand")
        if moved and _feeds_scatter(node.outputs[0]):
            return True
    return False


def load_card_graph(path: Path) -> ir.Model:
    """Return a graph of the card's contract, its weights in their files, with indices that ONNX
    Runtime takes; what a sampler reads is an output too.

    Raises:
        BadInput: no such graph, or its weights are not whole.
    """
    proto = read_proto(path)
    check_data(proto, path)
    try:
        model = ir.serde.deserialize_model(proto)
        ir.external_data.set_base_dir(model.graph, path.parent)
        within_bounds(model)
    except (ir.serde.SerdeError, ValueError, TypeError, KeyError) as error:
        raise BadInput("not a sound graph", where=Where(path=str(path))) from error
    made = (value for node in model.graph for value in node.outputs)
    model.graph.outputs.extend(value for value in made if value.name == LOGITS)
    return model


def open_session(model: ir.Model, path: Path, threads: int) -> Any:
    """Return an onnxruntime.InferenceSession of (a part of) the graph at `path`.

    Raises:
        Damaged: ONNX Runtime can't load it.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    folder = str(path.parent.resolve())
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    text = ir.serde.serialize_model(model).SerializeToString()
    try:
        return ort.InferenceSession(text, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no base of their own
        where = Where(path=str(path))
        raise Damaged(f"ONNX Runtime can't load it: {error}", where=where) from error


def zero_states(model: ir.Model, shapes: CallShapes) -> dict[str, np.ndarray]:
    """Return the states of a graph, zeros, by the name of their input.

    Raises:
        BadInput: a size has no number.
    """
    sizes = {
        "batch_size": shapes.sequences,
        "full_batch_size": shapes.sequences,
        "ctx_len": shapes.context_length + 1,
    }
    outputs = {value.name for value in model.graph.outputs}
    return {
        str(value.name): _zeros(value, sizes)
        for value in model.graph.inputs
        if f"{value.name}{STATE}" in outputs
    }


def _zeros(value: ir.Value, sizes: Mapping[str, int]) -> np.ndarray:
    dims = dims_of(value)
    unknown = [dim for dim in dims if not isinstance(dim, int) and dim not in sizes]
    dtype = None if value.dtype is None else _TYPES.get(value.dtype)
    if unknown or dtype is None:
        raise BadInput(
            f"the state {value.name} is {value.dtype} {dims}",
            hint=f"sizes are numbers or {', '.join(sizes)}",
        )
    shape = [dim if isinstance(dim, int) else sizes[dim] for dim in dims]
    return np.zeros(shape, dtype)
