"""Sizes that an ONNX file leaves open, filled in by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import onnx

from modelc.errors import BadInput, Where, nearest

LARGEST_SIZE: Final = (1 << 31) - 1


@dataclass(frozen=True)
class OpenSize:
    """A size that is open: its symbol, or `INPUT.AXIS` where it has none.

    Attributes:
        used: where it occurs, each as `INPUT.AXIS`.
    """

    name: str
    used: tuple[str, ...]

    def __str__(self) -> str:
        places = ", ".join(f"{place.rpartition('.')[0]} axis {place.rpartition('.')[2]}"
                           for place in self.used)  # fmt: skip
        return f"{self.name} ({places})"


def open_sizes(graph: onnx.GraphProto) -> tuple[OpenSize, ...]:
    """Return the open sizes of a graph's inputs, in the order in which they occur."""
    used: dict[str, list[str]] = {}
    for value in _inputs(graph):
        for axis, size in enumerate(value.type.tensor_type.shape.dim):
            if size.dim_param or size.dim_value <= 0:
                place = f"{value.name}.{axis}"
                used.setdefault(size.dim_param or place, []).append(place)
    return tuple(OpenSize(name, tuple(places)) for name, places in used.items())


def fill_in(graph: onnx.GraphProto, dims: Mapping[str, int], where: Where) -> None:
    """Give every open size of the inputs, and what bears its name elsewhere, a number.

    Args:
        dims: sizes by symbol, or by `INPUT.AXIS`, which fixes the symbol there everywhere.

    Raises:
        BadInput: a size is not given, is given twice or is no size; or a name is not known.
    """
    sizes = _by_symbol(graph, dims, where)
    left = [size for size in open_sizes(graph) if size.name not in sizes]
    if left:
        raise BadInput(
            f"sizes are open: {'; '.join(map(str, left))}",
            where=where,
            hint="fix them: " + " ".join(f"--dim {size.name}=1" for size in left)
            + ", or what size you need",
        )  # fmt: skip
    inputs = {value.name for value in _inputs(graph)}
    for value in (*graph.input, *graph.output, *graph.value_info):
        for axis, size in enumerate(value.type.tensor_type.shape.dim):
            place = f"{value.name}.{axis}" if value.name in inputs else ""
            number = sizes.get(size.dim_param) if size.dim_param else None
            if number is None and size.dim_value <= 0:
                number = sizes.get(place)
            if number is not None:
                size.dim_value = number


def _by_symbol(graph: onnx.GraphProto, dims: Mapping[str, int], where: Where) -> dict[str, int]:
    openings = open_sizes(graph)
    symbols = {place: size.name for size in openings for place in size.used}
    symbols |= {size.name: size.name for size in openings}
    fixed = {f"{value.name}.{axis}": size.dim_value for value in _inputs(graph)
             for axis, size in enumerate(value.type.tensor_type.shape.dim)}  # fmt: skip
    sizes: dict[str, int] = {}
    for name, number in dims.items():
        if not 1 <= number <= LARGEST_SIZE:
            raise BadInput(f"--dim {name}={number} is no size", where=where, hint="give 1 or more")
        if name not in symbols and name in fixed:
            if fixed[name] == number:
                continue
            raise BadInput(
                f"--dim {name}={number}, but the model fixes it to {fixed[name]}",
                where=where,
                hint="leave it out, or export the model with this size",
            )
        if name not in symbols:
            raise BadInput(
                f"there is no open size {name!r}; "
                + (f"open are: {'; '.join(map(str, openings))}" if openings else "none is open"),
                where=where,
                hint=nearest(name, symbols) if openings else "leave --dim out",
            )
        if sizes.setdefault(symbols[name], number) != number:
            raise BadInput(
                f"{symbols[name]} is given as {sizes[symbols[name]]} and as {number}",
                where=where,
                hint="they are one size: give it once",
            )
    return sizes


def _inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    stored = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in stored]
