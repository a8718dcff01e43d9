"""What runs a graph of the card's contract: the card itself, or ONNX Runtime in its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from modelc.errors import BadInput


@dataclass(frozen=True)
class CallShapes:
    """The sizes that a program was compiled for, its specialisations.

    Attributes:
        context_length: positions of a sequence's state.
        prefill_seq_len: tokens of a prompt that one call takes.
        sequences: whose states are kept side by side.
        continuous_batching: a prefill takes one sequence at a time, the others' states stay.
        decode_sequences: that a decoding call takes, fewer than are kept only with continuous
            batching; 0 for all.
        half: what there is: both, or the prefill or the decode alone.
        decode_seq_len: tokens that a decoding call takes of each sequence; above 1 they are
            speculated ones to be verified, and it gives as many rows of logits.
        prefill_lengths, decode_lengths: how many positions attention may be told to look at,
            ascending; empty for all of them. A prompt may not go beyond the last.

    Raises:
        BadInput: sizes that no program has.
    """

    context_length: int
    prefill_seq_len: int = 1
    sequences: int = 1
    continuous_batching: bool = False
    decode_sequences: int = 0
    half: Literal["both", "prefill", "decode"] = "both"
    decode_seq_len: int = 1
    prefill_lengths: tuple[int, ...] = ()
    decode_lengths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        counts = (self.prefill_seq_len, self.sequences, self.decode_seq_len)
        longest = max(self.prefill_seq_len, self.decode_seq_len)
        if min(counts) < 1 or self.context_length < longest:
            raise BadInput(
                f"calls of {longest} tokens for {self.sequences} sequences don't fit a context of "
                f"{self.context_length}"
            )
        if not 0 <= self.decode_sequences <= self.sequences or (
            self.decode_rows < self.sequences and not self.continuous_batching
        ):
            raise BadInput(
                f"calls of {self.decode_sequences} sequences, of {self.sequences} that are kept"
            )
        for lengths in (self.prefill_lengths, self.decode_lengths):
            rising = sorted(set(lengths)) == [*lengths]
            if lengths and not (rising and lengths[0] > 0 and lengths[-1] <= self.context_length):
                raise BadInput(f"lengths {lengths} don't rise up to {self.context_length}")

    @property
    def decode_rows(self) -> int:
        """Sequences of a decoding call."""
        return self.decode_sequences or self.sequences


class Engine(Protocol):
    """A loaded program. What it keeps between calls starts as zeros."""

    name: str

    inputs: frozenset[str]
    """Names of what a call is fed, without the retained states."""

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run a call; return its outputs without the retained states."""

    def run_all(self, calls: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
        """Run calls, one after the other, none of which depends on what another gives."""

    def close(self) -> None:
        """Free what is held."""
