"""The decode loop on the card's contract: prompts in padded chunks, then token by token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from modelc.errors import BadInput
from modelc.targets.qaic.engine import CallShapes, Engine

PADDING: Final = -1  # the position at which nothing is written, and which sees nothing


@dataclass
class Loop:
    """Calls of an engine; each sequence has a slot, and the caller says what its state holds.

    Attributes:
        adapters: of each slot, if the graph has several: the number of its LoRA adapter, 0 for
            none.
    """

    engine: Engine
    shapes: CallShapes
    adapters: Mapping[int, int] = field(default_factory=dict)

    def prefill(self, prompts: Mapping[int, Sequence[int]], start: int = 0) -> np.ndarray:
        """Feed prompts, by slot, from position `start` on, which what the slot holds goes up to.

        Returns:
            float32 [len(prompts), vocab]: the logits after each prompt's last token.

        Raises:
            BadInput: an empty prompt, or one longer than the context.
        """
        for tokens in prompts.values():
            self._check(tokens, start)
        if self.shapes.continuous_batching:
            rows = [self._prefill({slot: tokens}, start)[0] for slot, tokens in prompts.items()]
            return np.stack(rows)
        return self._prefill(prompts, start)

    def decode(self, tokens: Mapping[int, Sequence[int]], past: Mapping[int, int]) -> np.ndarray:
        """Feed tokens of several sequences, by slot, at the positions from `past[slot]` on.

        Returns:
            float32 [len(tokens), rows, vocab]: logits after each token of the longest, where the
            program keeps as many rows; else after the last.
        """
        for slot, row in tokens.items():
            self._check(row, past[slot])
        width = self.shapes.decode_seq_len
        if max(map(len, tokens.values())) > width:
            raise BadInput(f"a decoding call takes {width} tokens of a sequence")
        logits = self._call(tokens, past, self.shapes.sequences, width, decode=True)
        return logits[[*self._rows(tokens, self.shapes.sequences).values()]]

    def _prefill(self, prompts: Mapping[int, Sequence[int]], start: int) -> np.ndarray:
        """Sequences that are at their end are padded until all are."""
        width = self.shapes.prefill_seq_len
        batch = 1 if self.shapes.continuous_batching else self.shapes.sequences
        rows = self._rows(prompts, batch)
        last: dict[int, np.ndarray] = {}
        for first in range(0, max(map(len, prompts.values())), width):
            chunks = {slot: row[first : first + width] for slot, row in prompts.items()}
            chunks = {slot: row for slot, row in chunks.items() if len(row)}
            past = dict.fromkeys(chunks, start + first)
            logits = self._call(chunks, past, batch, width, decode=False)
            last |= {slot: logits[rows[slot], -1] for slot in chunks}
        return np.stack([last[slot] for slot in prompts])

    def _call(
        self,
        tokens: Mapping[int, Sequence[int]],
        past: Mapping[int, int],
        batch: int,
        width: int,
        *,
        decode: bool,
    ) -> np.ndarray:
        ids = np.zeros((batch, width), np.int64)
        positions = np.full((batch, width), PADDING, np.int64)
        rows = self._rows(tokens, batch)
        for slot, row in tokens.items():
            ids[rows[slot], : len(row)] = row
            positions[rows[slot], : len(row)] = np.arange(past[slot], past[slot] + len(row))
        feeds: dict[str, np.ndarray] = {"input_ids": ids, "position_ids": positions}
        slots = np.arange(batch) if batch > 1 else np.array([*tokens])
        if "batch_index" in self.engine.inputs:
            feeds["batch_index"] = slots[:, None].astype(np.int64)
        if "lora_ids" in self.engine.inputs:
            chosen = [self.adapters.get(int(slot), 0) for slot in slots]
            feeds["lora_ids"] = np.array(chosen, np.int64)[:, None]
        if "num_logits_to_keep" in self.engine.inputs:
            kept = width if decode else 1
            feeds["num_logits_to_keep"] = np.zeros((kept, 1), np.int64)
        if "comp_ctx_lengths" in self.engine.inputs:
            feeds["comp_ctx_lengths"] = np.zeros(self._length(positions, decode), np.int64)
        logits: np.ndarray = self.engine.run(feeds)["logits"].astype(np.float32, copy=False)
        return logits

    def _rows(self, slots: Mapping[int, object], batch: int) -> dict[int, int]:
        """Where each slot stands in a call: at its own place, or alone."""
        if batch == 1:
            return dict.fromkeys(slots, 0)
        return {slot: slot for slot in slots}

    def _length(self, positions: np.ndarray, decode: bool) -> int:
        """The fewest positions that the call has to look at."""
        lengths = self.shapes.decode_lengths if decode else self.shapes.prefill_lengths
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
