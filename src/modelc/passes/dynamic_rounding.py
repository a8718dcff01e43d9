"""Activations rounded token by token: each one's largest magnitude, or that of each of its blocks,
becomes the largest code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import onnx_ir as ir

from modelc.ir.emit import Dims, Scope, dims_of, new_value
from modelc.ir.provenance import module_of
from modelc.passes.htp.static import scope_in

Activations = Literal["encoded", "float", "int8_dynamic", "e4m3_dynamic", "e5m2_dynamic"]


@dataclass(frozen=True)
class _Codes:
    """The largest code, and the type of small floats; whole numbers have none."""

    largest: float
    element: ir.DataType | None = None


# Of E4M3 without infinities and of E5M2: OCP 8-bit Floating Point Specification 1.0.
_CODES: Final[Mapping[str, _Codes]] = {
    "int8_dynamic": _Codes(127.0),
    "e4m3_dynamic": _Codes(448.0, ir.DataType.FLOAT8E4M3FN),
    "e5m2_dynamic": _Codes(57344.0, ir.DataType.FLOAT8E5M2),
}


def whole_token(node: ir.Node) -> int | None:
    """Round a token as one block."""
    return 0


def round_dynamically(
    graph: ir.Graph,
    activations: Activations,
    kind_of: Callable[[str], str],
    block_of: Callable[[ir.Node], int | None] = whole_token,
) -> None:
    """Round what the matrices multiply whose modules have a kind of weight; nothing if
    `activations` is no dynamic form.

    Args:
        block_of: how many neighbours of a token are rounded together for a MatMul; 0 for all, None
            if they aren't rounded.
    """
    if activations not in _CODES:
        return
    made: dict[tuple[ir.Value, int], ir.Value] = {}
    for node in list(graph):
        x, weight = (*node.inputs, None, None)[:2]
        if node.op_type != "MatMul" or x is None or weight is None:
            continue
        if not weight.is_initializer() or not kind_of(module_of(node)):
            continue
        block = block_of(node)
        if block is None:
            continue
        if (x, block) not in made:
            producer = x.producer()
            assert producer is not None
            scope = scope_in(graph, module_of(producer))
            made[x, block] = _rounded(scope, x, _CODES[activations], block)
            graph.insert_after(producer, scope.sheet.nodes)
        node.replace_input_with(0, made[x, block])


def _rounded(scope: Scope, x: ir.Value, codes: _Codes, block: int) -> ir.Value:
    name = str(x.name).removeprefix(scope.module).lstrip(".")
    dims, width = dims_of(x), dims_of(x)[-1]
    assert isinstance(width, int)
    prefix = ".".join(part for part in (name, f"b{block}" if block else "") if part)
    rounding = _Rounding(scope, f"{prefix}." if prefix else "", codes)
    if not block or block >= width:
        return rounding.apply(x, dims, "rounded")
    count = -(-width // block)
    padded, wide = x, [*dims[:-1], count * block]
    if missing := count * block - width:
        pads = np.array([0] * (2 * len(dims) - 1) + [missing], np.int64)
        ends = scope.constant(f"rounding.pads.{missing}.of.{len(dims)}", pads)
        padded = rounding.emit("Pad", [x, ends], wide, "padded")
    split = [*dims[:-1], count, block]
    apart = np.array([*[0] * (len(dims) - 1), count, block], np.int64)
    together = np.array([*[0] * (len(dims) - 1), width if not missing else count * block])
    ending = f".{len(dims)}" if len(dims) < 3 else ""  # an expert's tokens have no batch
    blocks = scope.constant(f"rounding.blocks.{count}x{block}{ending}", apart)
    whole = scope.constant(f"rounding.whole.{count * block}{ending}", together)
    x = rounding.emit("Reshape", [padded, blocks], split, "blocks")
    x = rounding.apply(x, split, "blocks.rounded")
    if not missing:
        return rounding.emit("Reshape", [x, whole], dims, "rounded")
    x = rounding.emit("Reshape", [x, whole], wide, "whole")
    bounds = (
        scope.constant(f"rounding.{part}", np.array([number], np.int64))
        for part, number in (("first", 0), (f"last.{width}", width), ("axes", -1))
    )
    return rounding.emit("Slice", [x, *bounds], dims, "rounded")


@dataclass(frozen=True)
class _Rounding:
    """Writes the nodes that round along the last axis."""

    scope: Scope
    prefix: str
    codes: _Codes

    def emit(
        self,
        op_type: str,
        inputs: list[ir.Value],
        dims: Dims,
        name: str,
        dtype: ir.DataType = ir.DataType.FLOAT,
        **attributes: int,
    ) -> ir.Value:
        named = new_value(self.scope.path(f"{self.prefix}{name}"), dims, dtype)
        return self.scope.emit_many(op_type, inputs, [named], domain="", **attributes)[0]

    def apply(self, x: ir.Value, dims: Dims, result: str) -> ir.Value:
        one, constant = [*dims[:-1], 1], self.scope.constant
        axes = constant("rounding.axes", np.array([-1], np.int64))
        tiny = constant("rounding.tiny", np.array(np.finfo(np.float32).tiny))
        number = np.array(self.codes.largest, np.float32)
        largest = constant(f"rounding.largest.{self.codes.largest:g}", number)
        magnitudes = self.emit("Abs", [x], dims, "magnitudes")
        peak = self.emit("ReduceMax", [magnitudes, axes], one, "peak", keepdims=1)
        steps = self.emit("Div", [peak, largest], one, "step")
        steps = self.emit("Max", [steps, tiny], one, "step.not_zero")
        ratios = self.emit("Div", [x, steps], dims, "ratios")
        return self.emit("Mul", [self._nearest(ratios, dims), steps], dims, result)

    def _nearest(self, ratios: ir.Value, dims: Dims) -> ir.Value:
        element = self.codes.element
        if element is None:
            return self.emit("Round", [ratios], dims, "codes")
        small = self.emit("Cast", [ratios], dims, "small", element, to=int(element))
        return self.emit("Cast", [small], dims, "codes", to=int(ir.DataType.FLOAT))
