"""Programs that choose tokens on the card: what their sampler is fed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from modelc.targets.runtime import Sampling

SAMPLER_INPUT: Final = "temperatures"
"""An input that such programs have, and no others."""
LOGITS: Final = "sampler.logits"
"""What the sampler reads, under its name in the graph."""
TOKENS: Final = "next_tokens"
_TINY: Final = float(np.finfo(np.float32).tiny)


class CardSampling:
    """A `Sampling` as inputs of the graph; random numbers are drawn here, for each sequence from
    the seed on.

    Args:
        most: of how many of the largest logits the card draws one.
    """

    def __init__(self, sampling: Sampling, most: int) -> None:
        self._sampling = sampling
        self._most = most
        self._random: dict[int, np.random.Generator] = {}

    def start(self, slot: int) -> None:
        """Begin a sequence in a slot."""
        self._random[slot] = np.random.default_rng(self._sampling.seed)

    def feeds(self, ids: np.ndarray, rows: Mapping[int, int]) -> dict[str, np.ndarray]:
        """Return the sampler's inputs for a call.

        Args:
            ids: the call's tokens, int64 [batch, tokens].
            rows: slot -> its row in the call.
        """
        batch, chosen = len(ids), self._sampling
        random = np.full((batch, self._most), 0.5, np.float32)
        for slot, row in rows.items():
            if generator := self._random.get(slot):
                random[row] = generator.uniform(_TINY, 1 - 2**-24, self._most)
        numbers = {
            "repetition_penalties": chosen.repetition_penalty,
            "presence_penalties": 0.0,
            "temperatures": chosen.temperature,
            "top_ps": chosen.top_p,
            "min_ps": 0.0,
        }
        columns = {name: np.full((batch, 1), n, np.float32) for name, n in numbers.items()}
        return {
            **columns,
            "top_ks": np.full((batch, 1), chosen.top_k, np.int32),
            "random_numbers": random,
            "last_accepted_output_tokens": ids,
        }
