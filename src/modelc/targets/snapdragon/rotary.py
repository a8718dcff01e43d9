"""cos and sin as Genie makes them, so that the simulator is fed to the bit what a device is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelc.decoder.config import DecoderConfig
from modelc.decoder.rope import attention_factor, frequencies


@dataclass(frozen=True)
class Rotary:
    """Angle per position of every rotated pair (radians), and what cos and sin are multiplied by.

    The encoding of both must reach +-attention_factor, or they saturate.
    """

    frequencies: tuple[float, ...]
    attention_factor: float = 1.0

    def tables(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return cos and sin, float64 [len(positions), len(frequencies)]."""
        angles = positions[:, None].astype(np.float64) * np.array(self.frequencies, np.float64)
        return self.attention_factor * np.cos(angles), self.attention_factor * np.sin(angles)


def rotary_of(config: DecoderConfig, context_length: int) -> Rotary:
    """Return a decoder's rotary embedding at a context length."""
    return Rotary(
        frequencies=tuple(frequencies(config.rope, context_length).tolist()),
        attention_factor=attention_factor(config.rope, config.max_context),
    )
