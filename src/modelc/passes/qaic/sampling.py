"""Choosing the next token on the card: penalties, temperature, top-k, top-p, min-p, random draw.

Inputs, outputs and the order of what is done to the logits are those of Qualcomm's exporter
(https://github.com/quic/efficient-transformers). Random draws are by the Gumbel-max trick, on
numbers in (0, 1) that the host gives: one for each of the top logits, the smallest first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import onnx_ir as ir

from modelc.errors import BadInput
from modelc.ir.emit import Dims, Scope, Sheet, dims_of, new_value
from modelc.ir.legality import Stage
from modelc.passes.base import Pass
from modelc.passes.qaic import functions
from modelc.passes.qaic.clip import HALF_MIN
from modelc.passes.qaic.seen_tokens import SeenTokens, write_seen_tokens

_FLOAT, _BOOL = ir.DataType.FLOAT, ir.DataType.BOOL
_INT, _INT32 = ir.DataType.INT64, ir.DataType.INT32
_COLUMN: Final[Dims] = ["batch_size", 1]


@dataclass(frozen=True)
class SampleOnCard(Pass):
    """`next_tokens` int64 [batch_size, 1, 1] instead of `logits`, and which tokens each sequence
    has seen as retained states.

    New inputs: `last_accepted_output_tokens` int64 [batch_size, seq_len] (of a decoding call),
    `past_repetition_penalty_buffer`, `past_presence_penalty_buffer` bool [slots, vocab];
    `repetition_penalties`, `presence_penalties`, `temperatures` (0: greedy), `top_ps`, `min_ps`
    float32, `top_ks` int32 (0 or less: as many as there may be), all [batch_size, 1];
    `random_numbers` float32 [batch_size, max_top_k].

    Attributes:
        max_top_k: of how many of the largest logits one is drawn; 0 leaves sampling to the host.
    """

    max_top_k: int = 0
    opset: int = functions.OPSET
    name: ClassVar[str] = "sample_on_card"
    before: ClassVar[Stage] = "qaic"
    after: ClassVar[Stage] = "qaic"

    def apply(self, model: ir.Model) -> ir.Model:
        if not self.max_top_k:
            return model
        graph = model.graph
        logits = graph.outputs[0]
        vocab = dims_of(logits)[2]
        assert isinstance(vocab, int)
        if not 0 < self.max_top_k <= vocab:
            raise BadInput(f"there are no {self.max_top_k} largest of {vocab} logits")
        scope = Scope("sampler", Sheet(initializers=graph.initializers))
        seen = write_seen_tokens(scope, graph.inputs, vocab)
        columns = {
            name: new_value(name, _COLUMN, _INT32 if name == "top_ks" else _FLOAT)
            for name in ("repetition_penalties", "presence_penalties", "temperatures", "top_ks",
                         "top_ps", "min_ps")
        }  # fmt: skip
        random = new_value("random_numbers", ["batch_size", self.max_top_k])
        sampler = _Sampler(scope, columns, self.max_top_k)
        tokens = sampler.choose(logits, seen, random)
        for node in scope.sheet.nodes:
            graph.append(node)
        others = [columns[name] for name in columns if name != "repetition_penalties"]
        repetition = [seen.past_repeated, columns["repetition_penalties"]]
        given = [seen.accepted, *repetition, seen.past_present, *others, random]
        graph.inputs.extend(given)
        logits.name = "sampler.logits"
        logits.shape = ir.Shape(["batch_size", 1, vocab])
        graph.outputs[:] = [tokens, *list(graph.outputs)[1:], seen.repeated, seen.present]
        functions.add_functions(model, self.opset)
        return model


@dataclass(frozen=True)
class _Sampler:
    """Writes nodes; `columns` are the inputs of one number for each sequence."""

    scope: Scope
    columns: dict[str, ir.Value]
    most: int

    def choose(self, logits: ir.Value, seen: SeenTokens, random: ir.Value) -> ir.Value:
        vocab = dims_of(logits)[2]
        flat = self._emit("Squeeze", [logits, self._ints("row_axis", [1])], vocab, "flat")
        punished = self._punished(flat, seen)
        greedy = self._arg_max(punished, "greedy")
        heat = self.columns["temperatures"]
        cold = self._bool("Equal", [heat, self._number("zero", 0.0)], 1, "cold")
        divisor = self._emit("Where", [cold, self._number("one", 1.0), heat], 1, "divisor")
        scaled = self._emit("Div", [punished, divisor], vocab, "scaled")
        values, indices = self._largest(scaled)
        values = self._filtered(values)
        noise = self._emit("Log", [random], self.most, "log")
        noise = self._emit("Log", [self._emit("Neg", [noise], self.most, "minus_log")], self.most,
                           "noise")  # fmt: skip
        drawn = self._arg_max(self._emit("Sub", [values, noise], self.most, "noisy"), "drawn")
        token = self._emit("GatherElements", [indices, drawn], 1, "random", _INT, axis=1)
        token = self._emit("Where", [cold, greedy, token], 1, "token", _INT)
        result = new_value("next_tokens", ["batch_size", 1, 1], _INT)
        self.scope.emit_many("Unsqueeze", [token, self._ints("token_axis", [2])], [result])
        return result

    def _punished(self, logits: ir.Value, seen: SeenTokens) -> ir.Value:
        """Logits of repeated tokens divided, or where negative multiplied; of present ones less."""
        vocab = dims_of(logits)[1]
        penalty = self.columns["repetition_penalties"]
        one = self._number("one", 1.0)
        factor = self._emit("Where", [seen.repeated_rows, penalty, one], vocab, "factor")
        above = self._bool("Greater", [logits, self._number("zero", 0.0)], vocab, "above")
        less = self._emit("Div", [logits, factor], vocab, "divided")
        more = self._emit("Mul", [logits, factor], vocab, "multiplied")
        kept = self._emit("Where", [above, less, more], vocab, "repetition_punished")
        present = self._emit("Cast", [seen.present_rows], vocab, "present", to=int(_FLOAT))
        off = self._emit("Mul", [self.columns["presence_penalties"], present], vocab, "off")
        return self._emit("Sub", [kept, off], vocab, "punished")

    def _largest(self, logits: ir.Value) -> tuple[ir.Value, ir.Value]:
        """The largest logits and their tokens, the smallest of them first."""
        dims: Dims = ["batch_size", self.most]
        values = new_value(self.scope.path("top"), dims)
        indices = new_value(self.scope.path("top_tokens"), dims, _INT)
        count = self._ints("most", [self.most])
        self.scope.emit_many("TopK", [logits, count], [values, indices], axis=1)
        turn = [
            self._ints("turn.start", [-1]),
            self._ints("turn.end", [np.iinfo(np.int64).min]),
            self._ints("turn.axis", [1]),
            self._ints("turn.step", [-1]),
        ]
        rising = self._emit("Slice", [values, *turn], self.most, "rising")
        return rising, self._emit("Slice", [indices, *turn], self.most, "rising_tokens", _INT)

    def _filtered(self, values: ir.Value) -> ir.Value:
        """Values that top-k, top-p or min-p leave out become float16's minimum."""
        most, out = self.most, self._number("left_out", HALF_MIN)
        wanted = self._emit("Cast", [self.columns["top_ks"]], 1, "top_k", _INT, to=int(_INT))
        whole = self._ints("most", [most])
        off = self._bool("Less", [wanted, self._ints("first", [1])], 1, "top_k_off")
        wanted = self._emit("Where", [off, whole, wanted], 1, "top_k_wanted", _INT)
        skipped = self._emit("Sub", [whole, wanted], 1, "top_k_skipped", _INT)
        places = self._ints("places", [*range(most)])
        small = self._bool("Less", [places, skipped], most, "beyond_top_k")
        values = self._emit("Where", [small, out, values], most, "top_k_values")

        chances = self._emit("Softmax", [values], most, "chances", axis=1)
        axis = self.scope.constant(self.scope.path("sum_axis"), np.array(1, np.int64))
        sums = self._emit("CumSum", [chances, axis], most, "sums")
        rest = self._emit("Sub", [self._number("one", 1.0), self.columns["top_ps"]], 1, "rest")
        rare = self._bool("LessOrEqual", [sums, rest], most, "beyond_top_p")
        last = self._ints("last", [most - 1])
        rare = self._bool("And", [rare, self._bool("Less", [places, last], most, "not_last")],
                          most, "left_by_top_p")  # fmt: skip
        values = self._emit("Where", [rare, out, values], most, "top_p_values")
        best = self._emit("Gather", [chances, last], 1, "best_chance", axis=1)
        least = self._emit("Mul", [self.columns["min_ps"], best], 1, "least")
        rare = self._bool("Less", [chances, least], most, "beyond_min_p")
        return self._emit("Where", [rare, out, values], most, "min_p_values")

    def _arg_max(self, value: ir.Value, name: str) -> ir.Value:
        return self._emit("ArgMax", [value], 1, name, _INT, axis=1, keepdims=1)

    def _bool(self, op_type: str, inputs: list[ir.Value], width: int | str, name: str) -> ir.Value:
        return self._emit(op_type, inputs, width, name, _BOOL)

    def _emit(
        self,
        op_type: str,
        inputs: list[ir.Value],
        width: int | str,
        name: str,
        dtype: ir.DataType = _FLOAT,
        **attributes: Any,
    ) -> ir.Value:
        dims: Dims = ["batch_size", width]
        return self.scope.emit(op_type, inputs, dims, name, dtype=dtype, **attributes)

    def _number(self, name: str, value: float) -> ir.Value:
        return self.scope.constant(self.scope.path(name), np.array(value, np.float32))

    def _ints(self, name: str, values: list[int]) -> ir.Value:
        return self.scope.constant(self.scope.path(name), np.array(values, np.int64))
