"""ONNX Runtime in the card's place: the bodies of the card's operators, states on this machine.

ONNX Runtime refuses indices beyond a tensor, which the card passes over. So each state has one
position more than the context: padding is written there, and nothing ever looks at it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx_ir as ir

from modelc.errors import BadInput, Damaged, Where
from modelc.ir.onnx_file import check_data, read_proto
from modelc.targets.qaic.engine import CallShapes

STATE: Final = "_RetainedState"
_NOWHERE: Final = int(np.iinfo(np.int32).max)
_TYPES: Final[Mapping[str, type]] = {"tensor(float)": np.float32, "tensor(bool)": np.bool_}


class OnnxEngine:
    """A graph of the card's contract on ONNX Runtime's CPU (`Engine`)."""

    name = "onnxruntime"

    def __init__(self, path: Path, shapes: CallShapes, threads: int = 0) -> None:
        """Load a graph, its weights beside it; `threads` 0 is one for each physical core.

        Raises:
            BadInput: no such graph, or its weights are not whole.
            Damaged: ONNX Runtime can't load it.
        """
        self._session = _load(path, threads)
        sizes = {
            "batch_size": shapes.sequences,
            "full_batch_size": shapes.sequences,
            "ctx_len": shapes.context_length + 1,
        }
        outputs = [output.name for output in self._session.get_outputs()]
        self._states = {
            argument.name: _zeros(argument, sizes)
            for argument in self._session.get_inputs()
            if f"{argument.name}{STATE}" in outputs
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


def _load(path: Path, threads: int) -> Any:
    import onnxruntime as ort

    proto = read_proto(path)
    check_data(proto, path)
    where = Where(path=str(path))
    try:
        model = ir.serde.deserialize_model(proto)
        within_bounds(model)
        text = ir.serde.serialize_model(model).SerializeToString()
    except (ir.serde.SerdeError, ValueError, TypeError, KeyError) as error:
        raise BadInput("not a sound graph", where=where) from error
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    folder = str(path.parent.resolve())
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    try:
        return ort.InferenceSession(text, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no base of their own
        raise Damaged(f"ONNX Runtime can't load it: {error}", where=where) from error


def _zeros(argument: Any, sizes: Mapping[str, int]) -> Any:
    import onnxruntime as ort

    unknown = [dim for dim in argument.shape if not isinstance(dim, int) and dim not in sizes]
    if unknown or argument.type not in _TYPES:
        raise BadInput(
            f"the state {argument.name} is {argument.type} {argument.shape}",
            hint=f"sizes are numbers or {', '.join(sizes)}",
        )
    shape = [dim if isinstance(dim, int) else sizes[dim] for dim in argument.shape]
    return ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, _TYPES[argument.type]))
