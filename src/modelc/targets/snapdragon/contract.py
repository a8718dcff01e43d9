"""Whether a lowered graph has the tensors that its name promises (see `ir.genie`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from modelc.errors import BadInput, ModelcError, Where
from modelc.ir import genie
from modelc.ir.onnx_file import read_whole
from modelc.targets.snapdragon.binary import Tensor
from modelc.targets.snapdragon.graph_names import GraphKey, parse
from modelc.targets.snapdragon.graph_tensors import GraphTensors, tensors_of


def check_contract(models: Mapping[str, Path]) -> None:
    """Check every graph's inputs and outputs before the compiler gets them.

    Args:
        models: a graph's file by its name.

    Raises:
        BadInput: says all that doesn't fit; or a file is damaged, or its weights are.
    """
    problems = [
        problem
        for name, model in models.items()
        for problem in _problems(parse(name), _tensors(model))
    ]
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise BadInput(
            f"the graphs are not what Genie runs:\n{listed}",
            where=Where(graph=", ".join(models)),
            hint="a graph's name says its AR, context length and part; don't rename its file",
        )


def _tensors(path: Path) -> GraphTensors:
    model, where = read_whole(path), Where(path=str(path))
    for value in (*model.graph.inputs, *model.graph.outputs):
        if not value.name or value.dtype is None or value.shape is None:
            raise BadInput(f"{value.name or 'a tensor'} has no name, type or sizes", where=where)
    try:
        return tensors_of(model)
    except ModelcError as error:
        raise BadInput(error.message, where=where) from error
    except (ValueError, TypeError, OverflowError) as error:
        raise BadInput("its scales are no numbers", where=where) from error


def _problems(key: GraphKey, tensors: GraphTensors) -> Iterator[str]:
    inputs = {tensor.name: tensor for tensor in tensors.inputs}
    outputs = {tensor.name: tensor for tensor in tensors.outputs}
    first, last = key.part == 1, key.part == key.parts
    if (genie.INPUT_IDS in inputs) != first:
        yield f"{key.name} {'has no' if first else 'has'} {genie.INPUT_IDS}"
    if (genie.LOGITS in outputs) != last:
        yield f"{key.name} {'has no' if last else 'has'} {genie.LOGITS}"
    for tensor in (*tensors.inputs, *tensors.outputs):
        wanted = _sizes(key, tensor)
        found = {axis: tensor.shape[axis] for axis in wanted if axis < len(tensor.shape)}
        if found != wanted:
            yield f"{key.name} has {tensor.name} {list(tensor.shape)}, not {_told(tensor, wanted)}"
    for name in inputs:
        if genie.is_cache(name) and name.removesuffix("_in") + "_out" not in outputs:
            yield f"{key.name} takes {name} and gives nothing back for it"


def _sizes(key: GraphKey, tensor: Tensor) -> dict[int, int]:
    """Return the sizes that the lengths decide, by axis."""
    ar, past = key.ar, key.context_length - key.ar
    if tensor.name == genie.MASK:
        return {2: ar, 3: key.context_length}
    if tensor.name in (genie.COS, genie.SIN):
        return {2: ar}
    if genie.is_cache(tensor.name):
        axis = 3 if tensor.name.startswith("past_key_") else 2
        return {axis: past if tensor.name.endswith("_in") else ar}
    return {0: 1, 1: ar}


def _told(tensor: Tensor, wanted: Mapping[int, int]) -> str:
    sizes = [str(wanted.get(axis, size)) for axis, size in enumerate(tensor.shape)]
    return f"[{', '.join(sizes)}]"
