"""What a network's inputs are, and whether a feed fits them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ml_dtypes  # noqa: F401  # names its types to NumPy
import numpy as np

from modelc.errors import BadInput, Where, nearest

if TYPE_CHECKING:
    import onnx_ir as ir

Feed = dict[str, np.ndarray]


@dataclass(frozen=True)
class InputSpec:
    """A graph input: its name, NumPy's type, and sizes."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}[{', '.join(map(str, self.shape))}]"


def inputs_of(model: ir.Model) -> tuple[InputSpec, ...]:
    """Return the inputs of a static graph, in its order.

    Raises:
        BadInput: a size is not a number.
    """
    specs = []
    for value in model.graph.inputs:
        if value.dtype is None or value.shape is None or not value.shape.is_static():
            raise BadInput(
                f"the input {value.name} has no fixed sizes",
                hint="give each of its dimensions a size, such as --dim batch=1",
            )
        shape = tuple(int(size) for size in value.shape.numpy())
        specs.append(InputSpec(str(value.name), value.dtype.numpy(), shape))
    return tuple(specs)


def fit_feed(
    given: Mapping[str, np.ndarray], specs: Sequence[InputSpec], place: str, where: Where
) -> Feed:
    """Return a feed's arrays as the inputs want them.

    A missing or extra axis of size 1 in front is forgiven, and another number type where every
    number stays what it is (float32 token ids that are whole, float64 within float32's precision).

    Args:
        place: what the feed is called in errors, such as "line 3".

    Raises:
        BadInput: an input is missing, none has that name, or sizes or numbers don't fit.
    """
    names = {spec.name for spec in specs}
    if strange := sorted(set(given) - names):
        raise BadInput(
            f"{place}: no input is called {strange[0]!r}",
            where=where,
            hint=nearest(strange[0], names),
        )
    if missing := [spec for spec in specs if spec.name not in given]:
        raise BadInput(
            f"{place}: nothing is given for {', '.join(map(str, missing))}",
            where=where,
            hint="each sample needs all inputs",
        )
    return {spec.name: _fit(given[spec.name], spec, place, where) for spec in specs}


def _fit(array: np.ndarray, spec: InputSpec, place: str, where: Where) -> np.ndarray:
    if array.dtype.kind not in "biufV" or array.dtype.hasobject:
        raise BadInput(f"{place}: {spec.name} has {array.dtype}, no numbers", where=where)
    if _core(array.shape) != _core(spec.shape):
        raise BadInput(
            f"{place}: {spec} is given {list(array.shape)}",
            where=where,
            hint="give it the sizes that the model was compiled for",
        )
    array = array.reshape(spec.shape)
    if array.dtype == spec.dtype:
        return np.ascontiguousarray(array)
    with np.errstate(all="ignore"):
        converted = array.astype(spec.dtype)
        kept = _same(array, converted)
    if not kept:
        raise BadInput(
            f"{place}: {spec.name} is {spec.dtype}, and the given {array.dtype} can't become it "
            "without loss",
            where=where,
            hint=f"write {spec.dtype}",
        )
    return np.ascontiguousarray(converted)


def _core(shape: Sequence[int]) -> tuple[int, ...]:
    """Return sizes from the first one on that isn't 1."""
    sizes = tuple(shape)
    while sizes and sizes[0] == 1:
        sizes = sizes[1:]
    return sizes


def _same(array: np.ndarray, converted: np.ndarray) -> bool:
    """Whether the numbers are the same; floats may lose what their own type can't hold."""
    if converted.dtype.kind in "fV" and array.dtype.kind in "fV":
        wide, narrow = array.astype(np.float64), converted.astype(np.float64)
        return bool(np.isfinite(narrow).all() or not np.isfinite(wide).all())
    back = converted.astype(array.dtype)
    return bool((back == array).all())
