"""A model in memory with the inputs that it is exported for. Only the worker imports PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from modelc.errors import BadInput, Where


@dataclass(frozen=True)
class Example:
    """What is exported.

    Attributes:
        model: a `torch.nn.Module`, or a `torch.export.ExportedProgram`.
        arguments, keywords: tensors that it is called with.
        results: what it gives, with a `Leaf` in the place of each tensor, if that is known without
            running it.
    """

    model: Any
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    results: Any = None


def named_results(result: Any, tensor: type, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the tensors in what a model gave, by name: keys and fields as they are called, places
    in a tuple as `output_N`, a single tensor as `output`.

    Args:
        tensor: what a tensor is.
    """
    if isinstance(result, tensor):
        yield name or "output", result
    elif isinstance(result, Mapping):
        for key, value in result.items():
            yield from named_results(value, tensor, f"{name}.{key}" if name else str(key))
    elif isinstance(result, tuple) and hasattr(result, "_fields"):
        yield from named_results(dict(zip(result._fields, result, strict=True)), tensor, name)
    elif isinstance(result, list | tuple):
        for index, value in enumerate(result):
            yield from named_results(value, tensor, f"{name or 'output'}_{index}")
    elif is_dataclass(result):
        names = [field.name for field in fields(result)]
        yield from named_results({key: getattr(result, key) for key in names}, tensor, name)


def from_inputs(model: Any, inputs: Any, where: Where) -> Example:
    """Return a model with a tensor, a tuple of tensors, or a dict of them by argument.

    Raises:
        BadInput: the inputs are something else.
    """
    import torch

    if isinstance(inputs, torch.Tensor):
        inputs = (inputs,)
    if isinstance(inputs, Mapping) and all(isinstance(t, torch.Tensor) for t in inputs.values()):
        return Example(model, (), dict(inputs))
    if isinstance(inputs, list | tuple) and all(isinstance(t, torch.Tensor) for t in inputs):
        return Example(model, tuple(inputs), {})
    raise BadInput(
        f"the example inputs are {type(inputs).__name__}, or not all of them are tensors",
        where=where,
        hint="give a tuple of tensors, or a dict of tensors by argument",
    )
