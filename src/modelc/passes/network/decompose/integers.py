"""Integers and bools. HTP computes in int32: what comes in or goes out as int64 is converted there
by the provider, but not by every operator, and bytes are codes to it, not numbers."""

from __future__ import annotations

from typing import Final

import onnx_ir as ir

from modelc.passes.network.read import dtype_of, integer, integers, needed, sizes_of
from modelc.passes.network.sketch import Sketch

_WIDE: Final = (ir.DataType.INT64, ir.DataType.UINT64)


def cast(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """By way of int32: bytes that become floats, which HTP would scale like codes, and what becomes
    an int64 output."""
    x = needed(node)
    before, after = dtype_of(x), ir.DataType(integer(node, "to", 0))
    bytes_to_floats = before == ir.DataType.UINT8 and after.is_floating_point()
    wide_output = (
        after == ir.DataType.INT64
        and node.outputs[0].is_graph_output()
        and (before.is_floating_point() or before == ir.DataType.BOOL)
    )
    if not bytes_to_floats and not wide_output:
        return None
    return [s.cast(s.cast(x, ir.DataType.INT32), after)]


def equal(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """Of bools: not different."""
    a, b = needed(node), needed(node, 1)
    if dtype_of(a) != ir.DataType.BOOL:
        return None
    return [s.op("Not", [s.op("Xor", [a, b])])]


def negative(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    x = needed(node)
    if dtype_of(x).is_floating_point():
        return None
    return [s.sub(s.number(0, x, "zero"), x)]


def sign(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """Between -1 and 1, integers are their own signs."""
    x = needed(node)
    if dtype_of(x).is_floating_point() or not dtype_of(x).is_signed():
        return None
    above = s.op("Max", [x, s.number(-1, x, "least")], sizes_of(x))
    return [s.op("Min", [above, s.number(1, x, "most")], sizes_of(x))]


def transpose(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """Of an int64 input of the graph."""
    x = needed(node)
    if dtype_of(x) not in _WIDE or not x.is_graph_input():
        return None
    perm = integers(node, "perm", range(len(sizes_of(x)))[::-1])
    return [s.cast(s.transpose(s.cast(x, ir.DataType.INT32), perm), dtype_of(x))]
