"""GELU, HardSwish and Mish as exporters spell them out, back into one operator.

HTP has the first two, and takes Erf only as part of a GELU; Mish is written out for it in one exact
way. SiLU stays Sigmoid and Mul: opset 23 has no operator for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import onnx_ir as ir

from modelc.ir.legality import Stage
from modelc.passes.base import Pass
from modelc.passes.network.read import (
    constant_of,
    has_sizes,
    is_op,
    made_by,
    needed,
    number_of,
    real,
    sizes_of,
)
from modelc.passes.network.remove_dead_code import sweep
from modelc.passes.network.sketch import Names, Sketch


@dataclass(frozen=True)
class FuseActivations(Pass):
    """0.5 x (1 + erf(x / sqrt(2))) and 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) become
    Gelu, x * hardsigmoid(x) and x * clip(x + 3, 0, 6) / 6 HardSwish, x * tanh(softplus(x)) Mish;
    factors in any order."""

    name: ClassVar[str] = "fuse_activations"
    before: ClassVar[Stage] = "network"
    after: ClassVar[Stage] = "network"

    def apply(self, model: ir.Model) -> ir.Model:
        names = Names(model.graph)
        # From the end, so that the whole product is met before a part of it.
        for node in reversed(list(model.graph)):
            if not is_op(node, "Mul", "Div") or node.graph is None or not has_sizes(node):
                continue
            found = _match(node)
            if found is not None:
                source, op_type, nodes, attributes = found
                sketch = Sketch(model.graph, node, names)
                result = sketch.op(op_type, [source], sizes_of(source), **attributes)
                sketch.finish([result], nodes)
        sweep(model)
        return model


_Found = tuple[ir.Value, str, list[ir.Node], dict[str, Any]]


@dataclass
class _Product:
    """A tree of Mul (and Div by numbers) as one number and the other factors."""

    number: float
    factors: list[ir.Value]
    nodes: list[ir.Node]


def _products(node: ir.Node) -> Iterator[_Product]:
    """Yield the product that a node is, then with its factors taken apart, at most three deep."""
    product = _Product(1.0, [node.outputs[0]], [])
    for _ in range(3):
        expanded = False
        factors: list[ir.Value] = []
        for value in product.factors:
            maker = made_by(value, "Mul", "Div")
            if maker is None or (maker.op_type == "Div" and number_of(maker.inputs[1]) is None):
                factors.append(value)
                continue
            expanded = True
            product.nodes.append(maker)
            for index, operand in enumerate(maker.inputs):
                number = number_of(operand)
                if number is None:
                    factors.append(needed(maker, index))
                elif maker.op_type == "Div":
                    product.number /= number
                else:
                    product.number *= number
        product.factors = factors
        if not expanded:
            return
        yield product


def _match(node: ir.Node) -> _Found | None:
    for product in _products(node):
        if len(product.factors) != 2:
            continue
        for source, gate in (product.factors, product.factors[::-1]):
            for pattern in _PATTERNS:
                found = pattern(source, gate, product.number)
                if found is not None:
                    op_type, nodes, attributes = found
                    return source, op_type, [*nodes[::-1], *product.nodes[::-1]], attributes
    return None


_Gate = tuple[str, list[ir.Node], dict[str, str]]


def _near(left: float | None, right: float) -> bool:
    """Equal but for the rounding of an exporter, or of half precision."""
    return left is not None and abs(left - right) <= 1e-3 * abs(right)


def _exactly(left: float | None, right: float) -> bool:
    return left is not None and abs(left - right) <= 1e-6 * abs(right)


def _plus(value: ir.Value, number: float) -> tuple[ir.Value, ir.Node] | None:
    """Match other + number."""
    add = made_by(value, "Add")
    if add is None:
        return None
    for index in (0, 1):
        if _exactly(number_of(add.inputs[index]), number):
            return needed(add, 1 - index), add
    return None


def _times(value: ir.Value, test: Callable[[float], bool]) -> tuple[ir.Value, ir.Node] | None:
    """Match other * number or other / (1 / number)."""
    node = made_by(value, "Mul", "Div")
    if node is None:
        return None
    for index in (1,) if node.op_type == "Div" else (0, 1):
        number = number_of(node.inputs[index])
        if number and test(1 / number if node.op_type == "Div" else number):
            return needed(node, 1 - index), node
    return None


def _gelu_erf(source: ir.Value, gate: ir.Value, number: float) -> _Gate | None:
    shifted = _plus(gate, 1.0)
    erf = made_by(shifted[0], "Erf") if shifted else None
    if shifted is None or erf is None or not _exactly(number, 0.5):
        return None
    inner = _times(needed(erf), lambda n: _near(n, math.sqrt(0.5)))
    if inner is None or inner[0] is not source:
        return None
    return "Gelu", [shifted[1], erf, inner[1]], {}


def _gelu_tanh(source: ir.Value, gate: ir.Value, number: float) -> _Gate | None:
    shifted = _plus(gate, 1.0)
    tanh = made_by(shifted[0], "Tanh") if shifted else None
    if shifted is None or tanh is None or not _exactly(number, 0.5):
        return None
    scaled = _times(needed(tanh), lambda n: _near(n, math.sqrt(2 / math.pi)))
    total = made_by(scaled[0], "Add") if scaled else None
    if scaled is None or total is None:
        return None
    for index in (0, 1):
        if total.inputs[index] is source:
            cube = _cube(needed(total, 1 - index), source)
            if cube is not None:
                nodes = [shifted[1], tanh, scaled[1], total, *cube]
                return "Gelu", nodes, {"approximate": "tanh"}
    return None


def _cube(value: ir.Value, source: ir.Value) -> list[ir.Node] | None:
    """Match 0.044715 * source^3, as Pow or as products."""
    maker = made_by(value, "Mul")
    if maker is None:
        return None
    for product in _products(maker):
        if not _near(product.number, 0.044715):
            continue
        power = 0.0
        nodes = list(product.nodes)
        for factor in product.factors:
            node = made_by(factor, "Pow")
            if factor is source:
                power += 1
            elif node is not None and node.inputs[0] is source:
                power += number_of(node.inputs[1]) or math.nan
                nodes.append(node)
            else:
                power = math.nan
        if power == 3:
            return nodes
    return None


def _hard_swish(source: ir.Value, gate: ir.Value, number: float) -> _Gate | None:
    sigmoid = made_by(gate, "HardSigmoid")
    if sigmoid is not None and sigmoid.inputs[0] is source:
        slope = real(sigmoid, "alpha", 0.2)
        fits = _near(slope, 1 / 6) and _exactly(real(sigmoid, "beta", 0.5), 0.5)
        return ("HardSwish", [sigmoid], {}) if fits and _exactly(number, 1) else None
    clip = made_by(gate, "Clip")
    if clip is None or len(clip.inputs) < 3 or not _exactly(number, 1 / 6):
        return None
    low, high = constant_of(clip.inputs[1]), number_of(clip.inputs[2])
    shifted = _plus(needed(clip), 3.0)
    fits = low is not None and not low.any() and _exactly(high, 6.0)
    if not fits or shifted is None or shifted[0] is not source:
        return None
    return "HardSwish", [clip, shifted[1]], {}


def _mish(source: ir.Value, gate: ir.Value, number: float) -> _Gate | None:
    tanh = made_by(gate, "Tanh")
    softplus = made_by(tanh.inputs[0], "Softplus") if tanh else None
    fits = softplus is not None and softplus.inputs[0] is source and _exactly(number, 1)
    return ("Mish", [tanh, softplus], {}) if fits and tanh and softplus else None


_PATTERNS: Final = (_gelu_erf, _gelu_tanh, _hard_swish, _mish)
