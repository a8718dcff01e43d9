"""Feeds from Python: an iterable of samples, as data loaders give them, or a function in a file."""

from __future__ import annotations

import importlib.util
import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modelc.errors import BadInput, Where, nearest
from modelc.quant.feeds.inputs import Feed, InputSpec, fit_feed


def read_loader(
    loader: Iterable[Any], specs: Sequence[InputSpec], where: Where | None = None
) -> Iterator[Feed]:
    """Yield a feed for each sample that a loader gives.

    A sample is a mapping by input name; a sequence in the inputs' order, of which what comes
    behind the inputs, such as labels, is left out; or one array for the only input. Arrays are
    NumPy's, torch's, or whatever NumPy makes numbers of. A batch larger than the inputs' is cut
    into samples of their size; what is left over is dropped.

    Raises:
        BadInput: a sample does not fit the inputs.
    """
    where = where or Where(step="calibration data")
    for index, sample in enumerate(loader):
        place = f"sample {index}"
        arrays = {
            name: _array(value, name, place, where)
            for name, value in _named(sample, specs, place, where).items()
        }
        for part in _cut(arrays, specs):
            yield fit_feed(part, specs, place, where)


def is_function(name: str) -> bool:
    """Whether a name is FILE.py:function."""
    path, sign, function = name.rpartition(":")
    return bool(sign and function.isidentifier() and path.endswith(".py"))


def read_function(name: str, specs: Sequence[InputSpec]) -> Iterator[Feed]:
    """Yield the feeds of what FILE.py:function returns; the file runs as any Python program.

    Raises:
        BadInput: there is no such file or function, it fails, or it gives no samples.
    """
    path, _, function = name.rpartition(":")
    where = Where(module=function, path=path)
    made = _guarded(_load(Path(path), function), where)
    if isinstance(made, (str, bytes)) or not isinstance(made, Iterable):
        raise BadInput(
            f"the function returns {type(made).__name__}, no samples",
            where=where,
            hint="return or yield mappings from input names to arrays",
        )
    yield from read_loader(_guarded_samples(made, where), specs, where)


def _named(sample: Any, specs: Sequence[InputSpec], place: str, where: Where) -> Mapping[str, Any]:
    if isinstance(sample, Mapping):
        names = {spec.name for spec in specs}
        # Data loaders give labels as well; without any of the names all are shown as wrong.
        known = {str(name): value for name, value in sample.items() if name in names}
        return known or {str(name): value for name, value in sample.items()}
    plain = len(specs) == 1 and _is_numbers(sample)
    if isinstance(sample, (list, tuple)) and not plain:
        if len(sample) < len(specs):
            raise BadInput(
                f"{place} has {len(sample)} arrays, and the model {len(specs)} inputs",
                where=where,
                hint=f"in this order: {', '.join(map(str, specs))}",
            )
        return {spec.name: value for spec, value in zip(specs, sample, strict=False)}
    if len(specs) != 1:
        raise BadInput(
            f"{place} is one array, and the model has {len(specs)} inputs",
            where=where,
            hint="give mappings from input names to arrays",
        )
    return {specs[0].name: sample}


def _is_numbers(sample: Any) -> bool:
    """Whether a sample is one array, written as a list of numbers."""
    return isinstance(sample, list) and all(isinstance(one, numbers.Real) for one in sample)


def _array(value: Any, name: str, place: str, where: Where) -> np.ndarray:
    if hasattr(value, "detach"):  # a torch tensor, perhaps on another device and with a gradient
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":  # NumPy has no such type
            value = value.float()
    try:
        array = np.asarray(value)
    except Exception as error:  # whatever the user's own type raises
        raise BadInput(f"{place}: {name} is no array: {error}", where=where) from error
    if array.dtype.hasobject:
        raise BadInput(f"{place}: {name} is no array of numbers", where=where)
    return array


def _cut(arrays: Mapping[str, np.ndarray], specs: Sequence[InputSpec]) -> Iterator[dict[str, Any]]:
    """Yield the samples of a batch; the arrays as they are if they are no larger batch."""
    shapes = {spec.name: spec.shape for spec in specs}
    ratios = {
        len(array) // shapes[name][0]
        for name, array in arrays.items()
        if name in shapes and _is_batch(array.shape, shapes[name])
    }
    if len(ratios) != 1 or ratios == {0} or set(arrays) != set(shapes):
        yield dict(arrays)
        return
    if not all(_is_batch(array.shape, shapes[name]) for name, array in arrays.items()):
        yield dict(arrays)
        return
    for index in range(ratios.pop()):
        yield {
            name: array[index * shapes[name][0] : (index + 1) * shapes[name][0]]
            for name, array in arrays.items()
        }


def _is_batch(given: Sequence[int], wanted: Sequence[int]) -> bool:
    return bool(wanted) and len(given) == len(wanted) and tuple(given[1:]) == tuple(wanted[1:])


def _load(path: Path, function: str) -> Callable[[], Any]:
    where = Where(path=str(path))
    if not path.is_file():
        raise BadInput("no such file", where=where, hint="give FILE.py:function")
    spec = importlib.util.spec_from_file_location(f"modelc_feeds_{path.stem}", path)
    assert spec is not None and spec.loader is not None  # its name ends in .py
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise BadInput(f"the file fails: {_told(error)}", where=where) from error
    defined = [name for name, value in vars(module).items() if callable(value)]
    if function not in defined:
        raise BadInput(
            f"no function is called {function}",
            where=where,
            hint=nearest(function, defined) if defined else "the file defines no function",
        )
    found: Callable[[], Any] = getattr(module, function)
    return found


def _guarded(function: Callable[[], Any], where: Where) -> Any:
    try:
        return function()
    except Exception as error:
        raise BadInput(f"the function fails: {_told(error)}", where=where) from error


def _guarded_samples(samples: Iterable[Any], where: Where) -> Iterator[Any]:
    iterator = _guarded(lambda: iter(samples), where)
    end = object()
    while (sample := _guarded(lambda: next(iterator, end), where)) is not end:
        yield sample


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
