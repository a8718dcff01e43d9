"""A mixture of experts: each token goes through the few experts that a router chooses for it.

A pair is a token and one of the experts that it goes to. Pairs are sorted by expert, so that an
expert's tokens lie side by side and each expert multiplies its own and no others, be they none.

Sources: Mixtral, https://arxiv.org/abs/2401.04088; the shared expert: Qwen1.5-MoE,
https://qwenlm.github.io/blog/qwen-moe/.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelc.decoder.config import DecoderModel, Experts
from modelc.decoder.feed_forward import feed_forward
from modelc.decoder.linear import linear
from modelc.ir.emit import Dims, Scope, dims_of, new_value

_INT, _BOOL = ir.DataType.INT64, ir.DataType.BOOL


def mix_experts(scope: Scope, source: DecoderModel, experts: Experts, x: ir.Value) -> ir.Value:
    """Return the weighed sum of what a token's experts make of it, float32 [batch, sequence,
    hidden], called as the scope."""
    hidden, dims = source.config.hidden_size, dims_of(x)
    chosen, shares = _choose(scope, source, experts, x)
    pairs = _sort(scope, experts, chosen)

    all_tokens: Dims = [scope.path("tokens"), hidden]
    flat = scope.constant(f"shape.tokens.{hidden}", np.array([-1, hidden], np.int64))
    tokens = scope.emit("Reshape", [x, flat], all_tokens, "tokens")
    rows = scope.emit("Gather", [tokens, pairs.tokens], [pairs.size, hidden], "rows", axis=0)
    inside = [scope.inside(f"experts.{expert}") for expert in range(experts.count)]
    parts = [new_value(one.path("rows"), [one.path("tokens"), hidden]) for one in inside]
    scope.emit_many("Split", [rows, pairs.counts], parts, axis=0)
    made = [
        feed_forward(one, source, part, experts.hidden)
        for one, part in zip(inside, parts, strict=True)
    ]
    results = scope.emit("Concat", made, [pairs.size, hidden], "results", axis=0)

    # Back to the order of tokens, those of one token added up.
    back = scope.emit("Gather", [results, pairs.places], [pairs.size, hidden], "returned", axis=0)
    each: Dims = [all_tokens[0], experts.used, hidden]
    answers = _reshape(scope, back, each, "answers")
    weights = _reshape(scope, shares, [*each[:2], 1], "weights")
    weighed = scope.emit("Mul", [answers, weights], each, "weighed")
    axis = scope.constant("axis.experts", np.array([1], np.int64))
    total = scope.emit("ReduceSum", [weighed, axis], all_tokens, "total", keepdims=0)
    size = scope.emit("Shape", [x], [len(dims)], "shape", dtype=_INT)
    result = "routed" if experts.shared_hidden else ""
    mixed = scope.emit("Reshape", [total, size], dims, result, allowzero=1)
    if not experts.shared_hidden:
        return mixed
    return scope.emit("Add", [mixed, _shared(scope, source, experts, x)], dims)


def _choose(
    scope: Scope, source: DecoderModel, experts: Experts, x: ir.Value
) -> tuple[ir.Value, ir.Value]:
    """Return the experts that each token goes to, int64 [batch, sequence, used], and their shares
    in its result, float32 of the same shape."""
    raw = linear(scope.inside("gate"), source, x, experts.count)
    chances = scope.emit("Softmax", [raw], dims_of(raw), "probabilities", axis=-1)
    count = scope.constant(f"experts.used.{experts.used}", np.array([experts.used], np.int64))
    dims = [*dims_of(x)[:-1], experts.used]
    highest = new_value(scope.path("highest" if experts.normalise else "shares"), dims)
    chosen = new_value(scope.path("chosen"), dims, _INT)
    scope.emit_many("TopK", [chances, count], [highest, chosen], axis=-1)
    if not experts.normalise:
        return chosen, highest
    last = scope.constant("axis.last", np.array([-1], np.int64))
    total = scope.emit("ReduceSum", [highest, last], [*dims[:-1], 1], "highest.total", keepdims=1)
    return chosen, scope.emit("Div", [highest, total], dims, "shares")


@dataclass(frozen=True)
class _Pairs:
    """Pairs sorted by expert, those of one expert by token.

    Attributes:
        size: symbolic, how many there are.
        tokens: each pair's token, int64 [size].
        counts: how many pairs each expert has, int64 [experts].
        places: where each pair is, those of one token side by side, int64 [size].
    """

    size: str
    tokens: ir.Value
    counts: ir.Value
    places: ir.Value


def _sort(scope: Scope, experts: Experts, chosen: ir.Value) -> _Pairs:
    size = scope.path("pairs")

    def integers(op_type: str, inputs: list[ir.Value], name: str) -> ir.Value:
        return scope.emit(op_type, inputs, [size], f"pairs.{name}", dtype=_INT)

    flat = scope.constant("shape.flat", np.array([-1], np.int64))
    used = scope.constant(f"experts.used.{experts.used}.each", np.array(experts.used, np.int64))
    zero = scope.constant("experts.zero", np.array(0, np.int64))
    one = scope.constant("experts.one", np.array(1, np.int64))
    choices = integers("Reshape", [chosen, flat], "experts")
    length = scope.emit("Shape", [choices], [1], "pairs.size", dtype=_INT)
    count = scope.emit("Squeeze", [length], [], "pairs.count", dtype=_INT)
    numbers = integers("Range", [zero, count, one], "numbers")
    # Keys that are all different: the sort has one result, whatever the kernel does with equals.
    keys = integers("Add", [integers("Mul", [choices, count], "firsts"), numbers], "keys")
    sorted_keys, order = (
        new_value(scope.path(f"pairs.{name}"), [size], _INT) for name in ("sorted", "order")
    )
    scope.emit_many("TopK", [keys, length], [sorted_keys, order], axis=0, largest=0)
    tokens = integers("Div", [order, used], "tokens")
    places = scope.emit(
        "ScatterElements", [order, order, numbers], [size], "pairs.places", dtype=_INT, axis=0
    )
    ids = np.arange(experts.count, dtype=np.int64)[:, None]
    column = scope.constant(f"experts.ids.{experts.count}", ids)
    dims: Dims = [experts.count, size]
    member = scope.emit("Equal", [column, choices], dims, "pairs.of_expert", dtype=_BOOL)
    ones = scope.emit("Cast", [member], dims, "pairs.ones", dtype=_INT, to=int(_INT))
    axis = scope.constant("axis.pairs", np.array([1], np.int64))
    counts = scope.emit(
        "ReduceSum", [ones, axis], [experts.count], "counts", dtype=_INT, keepdims=0
    )
    return _Pairs(size, tokens, counts, places)


def _shared(scope: Scope, source: DecoderModel, experts: Experts, x: ir.Value) -> ir.Value:
    """Return what the expert of all tokens makes of them, weighed by its gate."""
    made = feed_forward(scope.inside("shared_expert"), source, x, experts.shared_hidden)
    raw = linear(scope.inside("shared_expert_gate"), source, x, 1)
    share = scope.emit("Sigmoid", [raw], dims_of(raw), "shared.share")
    return scope.emit("Mul", [made, share], dims_of(x), "shared")


def _reshape(scope: Scope, value: ir.Value, dims: Dims, name: str) -> ir.Value:
    sizes = [-1, *(dim for dim in dims[1:] if isinstance(dim, int))]
    shape = scope.constant("shape." + ".".join(map(str, sizes[1:])), np.array(sizes, np.int64))
    return scope.emit("Reshape", [value, shape], dims, name)
