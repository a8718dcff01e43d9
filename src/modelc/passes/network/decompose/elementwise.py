"""Functions of single numbers."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from modelc.passes.network.read import (
    constant_of,
    dtype_of,
    input_of,
    integer,
    needed,
    number_of,
    real,
    sizes_of,
)
from modelc.passes.network.sketch import Sketch

# erf(x) = 1 - t (a1 + t (a2 + ...)) exp(-x^2), t = 1 / (1 + P x): Abramowitz and Stegun,
# Handbook of Mathematical Functions, 7.1.26; off by at most 1.5e-7.
_ERF_P = 0.3275911
_ERF_A = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)


def erf(s: Sketch, node: ir.Node) -> list[ir.Value]:
    """Finite in half precision: exp(-x^2) underflows to 0, and no power of t overflows."""
    x = needed(node)
    size = s.op("Abs", [x])
    t = s.op("Reciprocal", [s.add(s.mul(size, _ERF_P), 1.0)])
    polynomial = s.mul(t, _ERF_A[-1])
    for coefficient in _ERF_A[-2::-1]:
        polynomial = s.mul(s.add(polynomial, coefficient), t)
    decay = s.op("Exp", [s.op("Neg", [s.mul(size, size)])])
    rest = s.mul(polynomial, decay)
    one_sided = s.sub(s.number(1.0, x), rest)
    return [s.mul(s.op("Sign", [x]), one_sided)]


def asin(s: Sketch, node: ir.Node) -> list[ir.Value]:
    return [_asin(s, needed(node))]


def acos(s: Sketch, node: ir.Node) -> list[ir.Value]:
    x = needed(node)
    return [s.sub(s.number(math.pi / 2, x), _asin(s, x))]


def _asin(s: Sketch, x: ir.Value) -> ir.Value:
    """asin(x) = 2 atan(x / (1 + sqrt((1 - x) (1 + x)))): no division by 0 at the ends."""
    product = s.mul(s.sub(s.number(1.0, x), x), s.add(x, 1.0))
    ratio = s.div(x, s.add(s.op("Sqrt", [product]), 1.0))
    return s.mul(s.op("Atan", [ratio]), 2.0)


def asinh(s: Sketch, node: ir.Node) -> list[ir.Value]:
    """sign(x) log(|x| + sqrt(x^2 + 1))."""
    x = needed(node)
    size = s.op("Abs", [x])
    root = s.op("Sqrt", [s.add(s.mul(x, x), 1.0)])
    return [s.mul(s.op("Sign", [x]), s.op("Log", [s.add(size, root)]))]


def acosh(s: Sketch, node: ir.Node) -> list[ir.Value]:
    """log(x + sqrt(x - 1) sqrt(x + 1)): x^2 would overflow half precision from 256 on."""
    x = needed(node)
    roots = s.mul(s.op("Sqrt", [s.sub(x, 1.0)]), s.op("Sqrt", [s.add(x, 1.0)]))
    return [s.op("Log", [s.add(x, roots)])]


def atanh(s: Sketch, node: ir.Node) -> list[ir.Value]:
    x = needed(node)
    ratio = s.div(s.add(x, 1.0), s.sub(s.number(1.0, x), x))
    return [s.mul(s.op("Log", [ratio]), 0.5)]


def tangent(s: Sketch, node: ir.Node) -> list[ir.Value]:
    """sin / cos"""
    x = needed(node)
    return [s.div(s.op("Sin", [x]), s.op("Cos", [x]))]


def cosh(s: Sketch, node: ir.Node) -> list[ir.Value]:
    up, down = _exponentials(s, needed(node))
    return [s.add(up, down)]


def sinh(s: Sketch, node: ir.Node) -> list[ir.Value]:
    up, down = _exponentials(s, needed(node))
    return [s.sub(up, down)]


def _exponentials(s: Sketch, x: ir.Value) -> tuple[ir.Value, ir.Value]:
    up, down = s.op("Exp", [x]), s.op("Exp", [s.op("Neg", [x])])
    return s.mul(up, 0.5), s.mul(down, 0.5)


def celu(s: Sketch, node: ir.Node) -> list[ir.Value]:
    x, alpha = needed(node), real(node, "alpha", 1.0)
    return [s.mul(s.op("Elu", [s.div(x, alpha)], alpha=1.0), alpha)]


def prelu(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """A slope that varies: max(x, 0) + slope * min(x, 0)."""
    x, slope = needed(node), needed(node, 1)
    if constant_of(slope) is not None:
        return None
    below = s.mul(slope, s.op("Min", [x, s.number(0.0, x)]))
    return [s.add(s.op("Max", [x, s.number(0.0, x)]), below)]


def softplus(s: Sketch, node: ir.Node) -> list[ir.Value]:
    """max(x, 0) + log(1 + exp(-|x|)): HTP's own is off by half a percent."""
    x = needed(node)
    decay = s.op("Exp", [s.op("Neg", [s.op("Abs", [x])])])
    return [s.add(s.op("Relu", [x]), s.op("Log", [s.add(decay, 1.0)]))]


def mish(s: Sketch, node: ir.Node) -> list[ir.Value]:
    """x * tanh(softplus(x))"""
    x = needed(node)
    (soft,) = softplus(s, node)
    return [s.mul(x, s.op("Tanh", [soft]))]


def softsign(s: Sketch, node: ir.Node) -> list[ir.Value]:
    x = needed(node)
    return [s.div(x, s.add(s.op("Abs", [x]), 1.0))]


def shrink(s: Sketch, node: ir.Node) -> list[ir.Value]:
    x, bias, limit = needed(node), real(node, "bias", 0.0), real(node, "lambd", 0.5)
    zero = s.number(0.0, x)
    low = s.where(s.compare("Less", x, -limit), s.add(x, bias), zero)
    return [s.where(s.compare("Greater", x, limit), s.sub(x, bias), low)]


def mod(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """C's fmod: the rest has the dividend's sign. The provider knows the other one, with the
    divisor's, which differs by the divisor; of integers that is exact."""
    x, y = needed(node), needed(node, 1)
    if not integer(node, "fmod", 0):
        return None
    if not dtype_of(x).is_floating_point():
        rest = s.op("Mod", [x, y])
        opposite = s.op("Xor", [s.compare("Less", x, 0), s.compare("Less", y, 0)])
        left = s.op("Not", [s.compare("Equal", rest, 0)])
        return [s.where(s.op("And", [opposite, left]), s.sub(rest, y), rest)]
    size, step = s.op("Abs", [x]), s.op("Abs", [y])
    whole = s.op("Floor", [s.div(size, step)])
    return [s.mul(s.op("Sign", [x]), s.sub(size, s.mul(whole, step)))]


def power(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """Constant exponents as products and roots; others in the type of the base."""
    x, exponent = needed(node), number_of(node.inputs[1])
    if exponent is None:
        other = needed(node, 1)
        if dtype_of(other) == dtype_of(x) or not dtype_of(x).is_floating_point():
            return None
        return [s.op("Pow", [x, s.cast(other, dtype_of(x))], sizes_of(node.outputs[0]))]
    if sizes_of(x) != sizes_of(node.outputs[0]):
        return None
    if exponent == 2:
        return [s.mul(x, x)]
    if exponent == 3:
        return [s.mul(s.mul(x, x), x)]
    if exponent == 4:
        square = s.mul(x, x)
        return [s.mul(square, square)]
    if not dtype_of(x).is_floating_point():
        return None
    if exponent == 0.5:
        return [s.op("Sqrt", [x])]
    if exponent == -0.5:
        return [s.op("Reciprocal", [s.op("Sqrt", [x])])]
    if exponent == -1:
        return [s.op("Reciprocal", [x])]
    if dtype_of(needed(node, 1)) == dtype_of(x):
        return None
    return [s.op("Pow", [x, s.number(exponent, x)])]


def clip(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """Bounds that aren't constant, or cross each other: max, then min, as ONNX has it."""
    x, low, high = needed(node), input_of(node, 1), input_of(node, 2)
    bounds = [constant_of(value) for value in (low, high)]
    given = [value is not None for value in (low, high)]
    plain = all(b is not None for b, is_given in zip(bounds, given, strict=True) if is_given)
    least, most = bounds
    crossed = least is not None and most is not None and bool(np.all(least > most))
    if plain and not crossed:
        return None
    if low is not None:
        x = s.op("Max", [x, low], sizes_of(x))
    return [s.op("Min", [x, high], sizes_of(x)) if high is not None else x]


def hardmax(s: Sketch, node: ir.Node) -> list[ir.Value]:
    """1 where the index is that of the first largest."""
    x = needed(node)
    sizes = sizes_of(x)
    axis = integer(node, "axis", -1) % len(sizes)
    kept = [1 if i == axis else size for i, size in enumerate(sizes)]
    index = s.op("ArgMax", [x], kept, dtype=ir.DataType.INT64, axis=axis, keepdims=1)
    counted = [size if i == axis else 1 for i, size in enumerate(sizes)]
    places = s.constant(np.arange(sizes[axis], dtype=np.int64).reshape(counted), "places")
    return [s.cast(s.op("Equal", [index, places], dtype=ir.DataType.BOOL), dtype_of(x))]


def dropout(s: Sketch, node: ir.Node) -> list[ir.Value | None] | None:
    """The mask of inference is all true; the values are what came in."""
    training = input_of(node, 2)
    if training is not None and number_of(training) != 0:
        return None
    sizes = sizes_of(needed(node))
    mask = s.constant(np.ones(sizes, bool), "mask")
    return [needed(node), mask]


def one_operand(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    return [needed(node)] if len(node.inputs) == 1 else None
