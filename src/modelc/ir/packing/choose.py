"""How a stored matrix is packed for MatMulNBits, decided by its format and the options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from modelc.ir.decode import decode_blocks
from modelc.ir.packing.blocks import LAYOUTS, PACKERS
from modelc.ir.packing.recentre import recentre
from modelc.ir.packing.requantise import to_eight_bits
from modelc.ir.packing.weight import Layout, PackedWeight

Weights = Literal["float", "gguf", "q8_0", "q4_0"]
Gguf = Literal["exact", "fast"]

# Formats whose exact layout is slow, because of float minima or short blocks, and what `fast`
# makes of them. Either way less is lost than by int8 activations: see `requantise` and `recentre`.
FAST: Final[Mapping[str, tuple[Literal["requantise", "recentre"], Layout]]] = {
    "Q2_K": ("recentre", Layout(bits=4, block_size=16, zero_points=True, minima=True)),
    "Q4_1": ("recentre", Layout(bits=4, block_size=32, zero_points=True, minima=True)),
    "Q4_K": ("recentre", Layout(bits=4, block_size=32, zero_points=True, minima=True)),
    "Q5_1": ("requantise", Layout(bits=8, block_size=32)),
    "Q5_K": ("requantise", Layout(bits=8, block_size=128)),
    "Q6_K": ("requantise", Layout(bits=8, block_size=128)),
}


@dataclass(frozen=True)
class Packing:
    """One way of packing rows of a format.

    Attributes:
        format: of the stored rows.
        kind: `blocks` keeps GGML's blocks bit for bit; `quantise` makes blocks of `target` as
            GGML does; `requantise` rounds to `layout`; `recentre` keeps codes and scales and
            rounds the minima.
        target: the format whose blocks are packed (`blocks`, `quantise`).
    """

    format: str
    kind: Literal["blocks", "quantise", "requantise", "recentre"]
    layout: Layout
    target: str = ""

    @property
    def how(self) -> str:
        """The computation as part of a tensor's identity."""
        return f"{self.kind} {self.target or self.layout}"

    def pack(self, raw: NDArray[np.uint8]) -> PackedWeight:
        """Pack stored rows, uint8 [N, row_bytes]."""
        if self.kind == "blocks":
            return PACKERS[self.format](raw)
        if self.kind == "recentre":
            return recentre(PACKERS[self.format](raw))
        values = decode_blocks(raw, self.format)
        if self.kind == "requantise":
            return to_eight_bits(values, self.layout.block_size)
        from gguf import GGMLQuantizationType, quants

        return PACKERS[self.target](quants.quantize(values, GGMLQuantizationType[self.target]))


def choose_packing(format: str, weights: Weights, gguf: Gguf) -> Packing | None:
    """Return how rows of a format are packed; None if they stay float."""
    if weights == "float" or (weights == "gguf" and format not in PACKERS):
        return None
    if weights == "gguf" and gguf == "fast" and format in FAST:
        return Packing(format, *FAST[format])
    target = format if weights == "gguf" else weights.upper()
    return Packing(format, "blocks" if target == format else "quantise", LAYOUTS[target], target)
