"""The decode loop on the card's contract: prompts in padded chunks, then token by token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from modelc.errors import BadInput
from modelc.targets.qaic.engine import CallShapes, Engine
from modelc.targets.qaic.sampled import LOGITS, TOKENS, CardSampling

PADDING: Final = -1  # the position at which nothing is written, and which sees nothing
Chunks = Mapping[int, Sequence[int]]
"""Tokens of several sequences, by slot."""


@dataclass(frozen=True)
class _Call:
    """The sizes of a kind of call: sequences, tokens of each, and which lengths it may look at."""

    batch: int
    width: int
    decodes: bool


@dataclass
class Loop:
    """Calls of an engine; each sequence has a slot, and the caller says what its state holds.

    What a call gives is logits or, where the card chooses tokens, these: [..., 1].

    Attributes:
        adapters: of each slot, if the graph has several: the number of its LoRA adapter, 0 for
            none.
        sampling: what a program that chooses tokens is fed; set it anew for other sequences.
        takes_tokens: take the tokens that it chose, not the logits that it chose them of.
    """

    engine: Engine
    shapes: CallShapes
    adapters: Mapping[int, int] = field(default_factory=dict)
    sampling: CardSampling | None = None
    takes_tokens: bool = False

    def prefill(self, prompts: Chunks, start: int = 0) -> np.ndarray:
        """Feed prompts, by slot, from position `start` on, which what the slot holds goes up to.

        Returns:
            float32 [len(prompts), vocab]: the logits after each prompt's last token.

        Raises:
            BadInput: an empty prompt, or one longer than the context.
        """
        for tokens in prompts.values():
            self._check(tokens, start)
        call = self._prefill_call
        last: dict[int, np.ndarray] = {}
        for group in _groups(prompts, call.batch):
            for first in range(0, max(map(len, group.values())), call.width):
                chunks = {slot: row[first : first + call.width] for slot, row in group.items()}
                chunks = {slot: row for slot, row in chunks.items() if len(row)}
                feeds = self._feeds(chunks, dict.fromkeys(chunks, start + first), call)
                answer, rows = self._answer(self.engine.run(feeds)), self._rows(chunks, call)
                for slot, row in chunks.items():
                    # Of several rows that one of the chunk's last token; else there is only that.
                    kept = len(row) - 1 if answer.shape[1] > 1 else -1
                    last[slot] = answer[rows[slot], kept]
        return np.stack([last[slot] for slot in prompts])

    def decode(self, tokens: Chunks, past: Mapping[int, int]) -> np.ndarray:
        """Feed tokens of several sequences, by slot, at the positions from `past[slot]` on.

        Returns:
            float32 [len(tokens), rows, vocab]: logits after each token of the longest, where the
            program keeps as many rows; else after the last.

        Raises:
            BadInput: more tokens or sequences than a call takes, or the program has no decode.
        """
        call = self._decode_call
        for slot, row in tokens.items():
            self._check(row, past[slot])
        if max(map(len, tokens.values())) > call.width or len(tokens) > call.batch:
            raise BadInput(f"a decoding call takes {call.width} tokens of {call.batch} sequences")
        answer = self._answer(self.engine.run(self._feeds(tokens, past, call)))
        return answer[[*self._rows(tokens, call).values()]]

    def each(self, token_ids: Sequence[int]) -> np.ndarray:
        """Feed one sequence token by token, with what is compiled for that: the decode, or the
        prefill if there is no other.

        Returns:
            float32 [len(token_ids), vocab]: the logits after each token.
        """
        self._check(token_ids, 0)
        call = self._prefill_call if self.shapes.half == "prefill" else self._decode_call
        calls = [self._feeds({0: [token]}, {0: at}, call) for at, token in enumerate(token_ids)]
        return np.stack([self._answer(found)[0, 0] for found in self.engine.run_all(calls)])

    @property
    def _prefill_call(self) -> _Call:
        if self.shapes.half == "decode":
            return self._decode_call
        batch = 1 if self.shapes.continuous_batching else self.shapes.sequences
        return _Call(batch, self.shapes.prefill_seq_len, decodes=False)

    @property
    def _decode_call(self) -> _Call:
        if self.shapes.half == "prefill":
            raise BadInput(
                "the program has a prefill only, so no token can follow the first",
                hint="compile it without prefill_only",
            )
        return _Call(self.shapes.decode_rows, self.shapes.decode_seq_len, decodes=True)

    def _feeds(self, tokens: Chunks, past: Mapping[int, int], call: _Call) -> dict[str, np.ndarray]:
        ids = np.zeros((call.batch, call.width), np.int64)
        positions = np.full((call.batch, call.width), PADDING, np.int64)
        rows = self._rows(tokens, call)
        for slot, row in tokens.items():
            ids[rows[slot], : len(row)] = row
            positions[rows[slot], : len(row)] = np.arange(past[slot], past[slot] + len(row))
        feeds: dict[str, np.ndarray] = {"input_ids": ids, "position_ids": positions}
        inputs, slots = self.engine.inputs, self._slots(rows, call)
        if "batch_index" in inputs:
            feeds["batch_index"] = np.array(slots, np.int64)[:, None]
        if "lora_ids" in inputs:
            chosen = [self.adapters.get(slot, 0) for slot in slots]
            feeds["lora_ids"] = np.array(chosen, np.int64)[:, None]
        if "num_logits_to_keep" in inputs:
            feeds["num_logits_to_keep"] = np.zeros((call.width if call.decodes else 1, 1), np.int64)
        if "comp_ctx_lengths" in inputs:
            feeds["comp_ctx_lengths"] = np.zeros(self._length(positions, call), np.int64)
        if self.sampling is not None:
            feeds |= self.sampling.feeds(ids, rows)
        return feeds

    def _answer(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        if self.takes_tokens:
            return outputs[TOKENS]
        logits = outputs.get("logits", outputs.get(LOGITS))
        if logits is None:
            raise BadInput(
                "the program gives the tokens that it chose, and no logits",
                hint="run its ONNX, which shows them (`--engine onnx`)",
            )
        return logits.astype(np.float32, copy=False)

    def _rows(self, slots: Mapping[int, object], call: _Call) -> dict[int, int]:
        """Where each slot stands in a call: at its own place if there is one for each."""
        if call.batch == self.shapes.sequences:
            return {slot: slot for slot in slots}
        return {slot: row for row, slot in enumerate(slots)}

    def _slots(self, rows: Mapping[int, int], call: _Call) -> list[int]:
        """The slot of each row; rows that are padding get slots that the call doesn't use."""
        if call.batch == self.shapes.sequences:
            return [*range(call.batch)]
        unused = (slot for slot in range(self.shapes.sequences) if slot not in rows)
        return [*rows, *(next(unused) for _ in range(call.batch - len(rows)))]

    def _length(self, positions: np.ndarray, call: _Call) -> int:
        """The fewest positions that the call has to look at."""
        lengths = self.shapes.decode_lengths if call.decodes else self.shapes.prefill_lengths
        needed = int(positions.max()) + 1
        for length in lengths or (self.shapes.context_length,):
            if length >= needed:
                return length
        raise BadInput(
            f"position {needed - 1} is beyond the {lengths[-1]} that the program looks at",
            hint="compile with longer comp_ctx_lengths",
        )

    def _check(self, tokens: Sequence[int], past: int) -> None:
        room = self.shapes.context_length - past
        if not 0 < len(tokens) <= room:
            raise BadInput(
                f"{len(tokens)} tokens at position {past} don't fit a context of "
                f"{self.shapes.context_length}",
                hint="compile with a longer --context-length" if len(tokens) else "",
            )


def _groups(prompts: Chunks, size: int) -> Iterator[dict[int, Sequence[int]]]:
    """Yield the prompts, as many together as a call takes."""
    slots = [*prompts]
    for first in range(0, len(slots), size):
        yield {slot: prompts[slot] for slot in slots[first : first + size]}
