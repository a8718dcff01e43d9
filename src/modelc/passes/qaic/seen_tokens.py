"""Which tokens each sequence has seen, kept on the card for the sampler's penalties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from modelc.ir.emit import Dims, Scope, dims_of, new_value
from modelc.passes.qaic.functions import CLOUD, SCATTER_ROWS

_BOOL, _INT, _INT32 = ir.DataType.BOOL, ir.DataType.INT64, ir.DataType.INT32
_COLUMN: Dims = ["batch_size", 1]


@dataclass(frozen=True)
class SeenTokens:
    """Values of the graph, bool [slots, vocab] but for the first.

    Attributes:
        accepted: the new tokens of a decoding call, int64 [batch_size, seq_len].
        past_repeated, repeated: of prompts and answers, before and after the call.
        past_present, present: of answers.
        repeated_rows, present_rows: of the call's sequences, bool [batch_size, vocab].
    """

    accepted: ir.Value
    past_repeated: ir.Value
    repeated: ir.Value
    repeated_rows: ir.Value
    past_present: ir.Value
    present: ir.Value
    present_rows: ir.Value


def write_seen_tokens(scope: Scope, inputs: Sequence[ir.Value], vocab: int) -> SeenTokens:
    """Write the nodes: a call of several tokens is (part of) a prompt, whose first part clears what
    is kept of its sequence; a call of one token is decoding."""
    given = {str(value.name): value for value in inputs}
    ids, positions = given["input_ids"], given["position_ids"]
    slots = dims_of(given["past_key.0"])[0]
    accepted = new_value("last_accepted_output_tokens", dims_of(ids), _INT)
    call = _write_call(scope, ids, positions, accepted, given.get("batch_index"))

    def keep(kind: str, kept: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
        past = new_value(f"past_{kind}_penalty_buffer", [slots, vocab], _BOOL)
        state = new_value(f"{past.name}_RetainedState", [slots, vocab], _BOOL)
        size = scope.emit("Shape", [past], [2], f"{kind}.shape", dtype=_INT)
        count = scope.emit("Gather", [size, _ints(scope, "slot_axis", [0])], [1], f"{kind}.slots",
                           dtype=_INT)  # fmt: skip
        wide = scope.emit("Concat", [count, _ints(scope, "single", [1])], [2], f"{kind}.column",
                          axis=0, dtype=_INT)  # fmt: skip
        true = scope.constant("sampler.true", np.array(True))
        ones = scope.emit("Expand", [true, wide], [slots, 1], f"{kind}.ones", dtype=_BOOL)
        zeros = scope.emit("Sub", [call.slots, call.slots], _COLUMN, f"{kind}.first", dtype=_INT)
        rows = _scatter(scope, [ones, call.slots, zeros, kept], [slots, 1], f"{kind}.rows_kept")
        begun = scope.emit("And", [past, rows], [slots, vocab], f"{kind}.begun", dtype=_BOOL)
        marks = call.marks if kind == "repetition" else call.answer_marks
        new = _marked(scope, begun, call, marks, kind, vocab)
        scope.emit_many(SCATTER_ROWS, [begun, call.slots, call.tokens, new], [state], domain=CLOUD)
        flat = scope.emit("Squeeze", [call.slots, _ints(scope, "slots_axis", [1])], ["batch_size"],
                          f"{kind}.flat", dtype=_INT)  # fmt: skip
        chosen = scope.emit("Gather", [state, flat], ["batch_size", vocab], f"{kind}.rows",
                            dtype=_BOOL, axis=0)  # fmt: skip
        return past, state, chosen

    repetition = keep("repetition", call.goes_on)
    presence = keep("presence", call.decodes)
    return SeenTokens(accepted, *repetition, *presence)


@dataclass(frozen=True)
class _Call:
    """What a call adds.

    Attributes:
        slots: of its sequences, int64 [batch_size, 1].
        tokens: the new tokens, padding replaced by the last one, int64 [batch_size, seq_len].
        marks: whether these count, bool [batch_size, 1]: a sequence that is all padding has none.
        answer_marks: whether they do and are an answer's.
        goes_on: whether what is kept of a prompt's sequence stays, bool [batch_size, 1].
        decodes: whether what is kept of an answer does.
    """

    slots: ir.Value
    tokens: ir.Value
    marks: ir.Value
    answer_marks: ir.Value
    goes_on: ir.Value
    decodes: ir.Value


def _write_call(
    scope: Scope,
    ids: ir.Value,
    positions: ir.Value,
    accepted: ir.Value,
    batch_index: ir.Value | None,
) -> _Call:
    dims = dims_of(ids)

    def emit(
        op_type: str,
        inputs: list[ir.Value],
        sizes: Dims,
        name: str,
        dtype: ir.DataType = _INT,
        **attributes: Any,
    ) -> ir.Value:
        return scope.emit(op_type, inputs, sizes, name, dtype=dtype, **attributes)

    zero, one = _ints(scope, "zero_id", [0]), _ints(scope, "one_id", [1])
    shape = emit("Shape", [ids], [2], "shape")
    batch = emit("Gather", [shape, zero], [1], "batch")
    length = emit("Gather", [shape, one], [1], "length")
    prompt = emit("Greater", [length, one], [1], "prompt", _BOOL)
    slots = batch_index
    if slots is None:
        first, step = _scalar(scope, "first_slot", 0), _scalar(scope, "slot_step", 1)
        count = emit("Squeeze", [batch], [], "batch_count")
        order = emit("Range", [first, count, step], ["batch_size"], "order")
        slots = emit("Unsqueeze", [order, one], _COLUMN, "slots")
    given = emit("Where", [prompt, ids, accepted], dims, "given")
    small = emit("Cast", [positions], dims, "positions", _INT32, to=int(_INT32))
    last = emit("ArgMax", [small], _COLUMN, "last_place", axis=1, keepdims=1)
    final = emit("GatherElements", [given, last], _COLUMN, "last_token", axis=1)
    padded = emit("Less", [positions, zero], dims, "padded", _BOOL)
    tokens = emit("Where", [padded, final, given], dims, "tokens")
    highest = emit("GatherElements", [positions, last], _COLUMN, "highest", axis=1)
    marks = emit("GreaterOrEqual", [highest, zero], _COLUMN, "active", _BOOL)
    decoding = emit("Not", [prompt], [1], "decoding", _BOOL)
    idle = emit("Not", [marks], _COLUMN, "idle", _BOOL)
    decodes = emit("Or", [decoding, idle], _COLUMN, "decodes", _BOOL)
    head = emit("Gather", [positions, zero], _COLUMN, "head", axis=1)
    later = emit("Not", [emit("Equal", [head, zero], _COLUMN, "begins", _BOOL)], _COLUMN, "later",
                 _BOOL)  # fmt: skip
    goes_on = emit("Or", [later, decodes], _COLUMN, "goes_on", _BOOL)
    answers = emit("And", [marks, decoding], _COLUMN, "answers", _BOOL)
    return _Call(slots, tokens, marks, answers, goes_on, decodes)


def _marked(
    scope: Scope, begun: ir.Value, call: _Call, marks: ir.Value, kind: str, vocab: int
) -> ir.Value:
    """What is written at the tokens, bool [batch_size, seq_len]: true, or what is there."""
    flat = scope.emit("Squeeze", [call.slots, _ints(scope, "slots_axis", [1])], ["batch_size"],
                      f"{kind}.own", dtype=_INT)  # fmt: skip
    rows = scope.emit("Gather", [begun, flat], ["batch_size", vocab], f"{kind}.begun_rows",
                      dtype=_BOOL, axis=0)  # fmt: skip
    dims = dims_of(call.tokens)
    there = scope.emit("GatherElements", [rows, call.tokens], dims, f"{kind}.there", dtype=_BOOL,
                       axis=1)  # fmt: skip
    return scope.emit("Or", [there, marks], dims, f"{kind}.marks", dtype=_BOOL)


def _scatter(scope: Scope, inputs: list[ir.Value], dims: Dims, name: str) -> ir.Value:
    return scope.emit(SCATTER_ROWS, inputs, dims, name, dtype=_BOOL, domain=CLOUD)


def _ints(scope: Scope, name: str, values: list[int]) -> ir.Value:
    return scope.constant(scope.path(name), np.array(values, np.int64))


def _scalar(scope: Scope, name: str, value: int) -> ir.Value:
    return scope.constant(scope.path(name), np.array(value, np.int64))
