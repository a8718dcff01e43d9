"""Encodings of tensors that a file doesn't name, as far as others determine them.

AIMET leaves out what only moves, and what an accelerator fuses; other exporters compute attention
in another order. What is neither bounded by its operator nor by its inputs stays unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import numpy as np
import onnx_ir as ir

from modelc.ir.encodings import Encoding, IntegerType, from_range, symmetric
from modelc.quant.calibrate import HIDDEN_BELOW, MASK

Known = Mapping[str, Encoding]
Found = Iterator[tuple[ir.Value, Encoding]]

UNIT: Final = Encoding(float(np.float32(1 / 65535)), 0, "uint16")


def derive(model: ir.Model, known: Known, cache: IntegerType) -> dict[str, Encoding]:
    """Return encodings of tensors of an expanded graph that `known` lacks, as far as they follow.

    Args:
        known: by name; of weights too, where a table is looked up.
        cache: type of a KV cache that is not known.
    """
    everything = dict(known)
    while True:
        before = len(everything)
        for node in model.graph:
            for value, encoding in RULES.get(node.op_type, _nothing)(node, everything, cache):
                everything.setdefault(str(value.name), encoding)
        if len(everything) == before:
            return {name: everything[name] for name in sorted(everything.keys() - known.keys())}


def _nothing(node: ir.Node, known: Known, cache: IntegerType) -> Found:
    yield from ()


def _moved(node: ir.Node, known: Known, cache: IntegerType) -> Found:
    """What is moved keeps its encoding, both ways."""
    (source, *_), results = _inputs(node), node.outputs
    if encoding := known.get(str(source.name)):
        yield from ((result, encoding) for result in results)
    elif len(results) == 1 and (encoding := known.get(str(results[0].name))):
        yield source, encoding
    elif source.const_value is not None and source.name in ("rope.cos", "rope.sin"):
        limit = float(np.abs(source.const_value.numpy()).max())
        yield results[0], Encoding(float(np.float32(limit / 32768)), 32768, "uint16")


def _joined(node: ir.Node, known: Known, cache: IntegerType) -> Found:
    """Parts of what is joined lie in its range. A cache holds what is added to it, around 0."""
    (result,), sources = node.outputs, _inputs(node)
    if encoding := known.get(str(result.name)):
        yield from ((source, encoding) for source in sources)
    elif str(result.name).startswith("present."):
        if new := known.get(str(sources[1].name)):
            yield result, symmetric(_limit(new), cache)
    else:
        parts = [known.get(str(source.name)) for source in sources]
        if parts[0] and all(part == parts[0] for part in parts):
            yield result, parts[0]


def _scaled(node: ir.Node, known: Known, cache: IntegerType) -> Found:
    """By a constant: the codes stay, their scale is multiplied. By cos or sin: within the limits
    of both, on either side of 0."""
    (source, factor), (result,) = _inputs(node), node.outputs
    given, made = known.get(str(source.name)), known.get(str(result.name))
    constant = factor.const_value.numpy() if factor.const_value is not None else np.zeros(2)
    if constant.size == 1 and (number := float(constant.reshape(()))) > 0:
        times = 1 / number if node.op_type == "Div" else number
        if given:
            yield result, Encoding(given.scale * times, given.zero_point, given.dtype)
        elif made:
            yield source, Encoding(made.scale / times, made.zero_point, made.dtype)
    elif given and factor.name in ("rope.cos.new", "rope.sin.new") and str(factor.name) in known:
        table = known[str(factor.name)]
        yield result, symmetric(_limit(given) * _limit(table), "uint16")


def _added(node: ir.Node, known: Known, cache: IntegerType) -> Found:
    """Masked scores: their own range, and below it just enough room for hidden ones to vanish.
    A product to which a bias is added, which AIMET sees as one: the sum's range without it."""
    (left, right), (result,) = _inputs(node), node.outputs
    if str(result.name).endswith(".masked") and (scores := known.get(str(left.name))):
        yield result, from_range(scores.minimum - HIDDEN_BELOW, scores.maximum, "uint16")
    elif right.const_value is not None and (total := known.get(str(result.name))):
        bias = right.const_value.numpy()
        low, high = total.minimum - float(bias.max()), total.maximum - float(bias.min())
        yield left, from_range(low, high, total.dtype)


def _from_0_to_1(node: ir.Node, known: Known, cache: IntegerType) -> Found:
    yield node.outputs[0], UNIT


def _around_0(node: ir.Node, known: Known, cache: IntegerType) -> Found:
    yield node.outputs[0], symmetric(1.0, "uint16")


def _mask(node: ir.Node, known: Known, cache: IntegerType) -> Found:
    if str(node.outputs[0].name).startswith("mask."):
        yield node.outputs[0], MASK


RULES: Final[Mapping[str, Callable[[ir.Node, Known, IntegerType], Found]]] = {
    "Add": _added,
    "Concat": _joined,
    "Div": _scaled,
    "Gather": _moved,
    "Mul": _scaled,
    "Reshape": _moved,
    "Sigmoid": _from_0_to_1,
    "Softmax": _from_0_to_1,
    "Split": _moved,
    "Tanh": _around_0,
    "Transpose": _moved,
    "Unsqueeze": _moved,
    "Where": _mask,
}
"""By operator: what one node lets follow."""


def _inputs(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.inputs if value is not None]


def _limit(encoding: Encoding) -> float:
    return max(-encoding.minimum, encoding.maximum)
