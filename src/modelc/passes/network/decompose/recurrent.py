"""Recurrent networks in forms that HTP doesn't take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import onnx_ir as ir

from modelc.passes.network.read import (
    constant_of,
    dtype_of,
    input_of,
    integer,
    is_used,
    needed,
    sizes_of,
    text,
)
from modelc.passes.network.sketch import Sketch

MOST_STEPS = 512
"""The longest sequence that is written out step by step."""

_ACTIVATIONS: Final[Mapping[str, Callable[[Sketch, ir.Value], ir.Value]]] = {
    "Tanh": lambda s, x: s.op("Tanh", [x]),
    "Sigmoid": lambda s, x: s.op("Sigmoid", [x]),
    "Relu": lambda s, x: s.op("Relu", [x]),
}


def gated(s: Sketch, node: ir.Node) -> list[ir.Value | None] | None:
    """LSTM and GRU whose first axis is the batch: transposed before and after. Lengths of sequences
    that are the whole ones go."""
    inputs = list(node.inputs)
    lengths = input_of(node, 4)
    whole = lengths is not None and not _has_lengths(node)
    if whole:
        inputs[4] = None
    batch_first = bool(integer(node, "layout", 0))
    if not batch_first and not whole:
        return None
    if batch_first:
        inputs[0] = s.transpose(needed(node), [1, 0, 2])
        for index in (5, 6) if node.op_type == "LSTM" else (5,):
            value = input_of(node, index)
            if value is not None:
                inputs[index] = s.transpose(value, [1, 0, 2])
    attributes = {name: a.value for name, a in node.attributes.items() if name != "layout"}
    turned = [(2, 0, 1, 3), *[(1, 0, 2)] * 2] if batch_first else [(0, 1, 2, 3), *[(0, 1, 2)] * 2]
    outputs: list[tuple[str, list[int], ir.DataType]] = []
    for value, perm in zip(node.outputs, turned, strict=False):
        sizes = sizes_of(value) if value.name else ()
        before = [sizes[perm.index(axis)] for axis in range(len(perm))] if sizes else []
        outputs.append((f"steps.{len(outputs)}", before, dtype_of(needed(node))))
    made = s.many(node.op_type, inputs, outputs, **attributes)
    return [
        s.transpose(value, perm) if is_used(node, index) else None
        for index, (value, perm) in enumerate(zip(made, turned, strict=False))
    ]


def _has_lengths(node: ir.Node) -> bool:
    """Whether sequences have lengths of their own, or may have."""
    lengths = input_of(node, 4)
    steps = sizes_of(needed(node))[1 if integer(node, "layout", 0) else 0]
    known = constant_of(lengths)
    return lengths is not None and (known is None or bool((known != steps).any()))


def simple(s: Sketch, node: ir.Node) -> list[ir.Value | None] | None:
    """RNN, step by step: h = f(x W^T + h R^T + b). All steps' x W^T are one product."""
    x, weight, recurrence = needed(node), needed(node, 1), needed(node, 2)
    batch_first = bool(integer(node, "layout", 0))
    if batch_first:
        x = s.transpose(x, [1, 0, 2])
    steps, batch, _ = sizes_of(x)
    directions = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
    turned = directions[text(node, "direction", "forward")]
    names = node.attributes.get_strings("activations", ("Tanh",) * len(turned))
    if _has_lengths(node) or steps > MOST_STEPS or any(str(n) not in _ACTIVATIONS for n in names):
        return None
    if "clip" in node.attributes:
        return None
    hidden = sizes_of(weight)[1]
    all_steps, lasts = [], []
    for index, backwards in enumerate(turned):
        made = _direction(s, node, x, weight, recurrence, index, backwards, str(names[index]))
        lasts.append(made[0] if backwards else made[-1])
        joined = s.concat([s.reshape(h, [1, 1, batch, hidden]) for h in made], 0)
        all_steps.append(joined)
    sequence = s.concat(all_steps, 1)
    last = s.concat([s.reshape(h, [1, batch, hidden]) for h in lasts], 0)
    if batch_first:
        sequence, last = s.transpose(sequence, [2, 0, 1, 3]), s.transpose(last, [1, 0, 2])
    return [sequence if is_used(node, 0) else None, last if is_used(node, 1) else None]


def _direction(
    s: Sketch, node: ir.Node, x: ir.Value, weight: ir.Value, recurrence: ir.Value,
    index: int, backwards: bool, activation: str,
) -> list[ir.Value]:  # fmt: skip
    """Return the hidden state [batch, hidden] after each step, in the order of the input."""
    steps, batch, width = sizes_of(x)
    hidden = sizes_of(weight)[1]
    w = s.transpose(s.reshape(_row(s, weight, index), [hidden, width]), [1, 0])
    r = s.transpose(s.reshape(_row(s, recurrence, index), [hidden, hidden]), [1, 0])
    given = s.matmul(s.reshape(x, [steps * batch, width]), w)
    bias, initial = input_of(node, 3), input_of(node, 5)
    if bias is not None:
        both = s.reshape(_row(s, bias, index), [2, hidden])
        given = s.add(given, s.reduce("ReduceSum", both, [0], keepdims=False))
    given = s.reshape(given, [steps, batch, hidden])
    state: ir.Value | None = None
    if initial is not None:
        axis = 1 if integer(node, "layout", 0) else 0
        state = s.reshape(s.slice(initial, axis, index, index + 1), [batch, hidden])
    made: list[ir.Value] = []
    for step in reversed(range(steps)) if backwards else range(steps):
        total = s.reshape(s.slice(given, 0, step, step + 1), [batch, hidden])
        if state is not None:
            total = s.add(total, s.matmul(state, r))
        state = _ACTIVATIONS[activation](s, total)
        made.append(state)
    return made[::-1] if backwards else made


def _row(s: Sketch, value: ir.Value, index: int) -> ir.Value:
    return s.slice(value, 0, index, index + 1) if sizes_of(value)[0] > 1 else value
