"""How a stored matrix is packed for MatMulNBits, decided by its format and the options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from modelc.ir.packing.blocks import LAYOUTS, PACKERS
from modelc.ir.packing.requantise import to_eight_bits, to_four_bits
from modelc.ir.packing.weight import Layout, PackedWeight

Weights = Literal["float", "gguf", "q8_0", "q4_0"]
Gguf = Literal["exact", "fast"]

# Formats whose exact layout is slow, because of minima or short blocks, and the layout that
# `fast` gives them: as many bits, or more.
FAST: Final = {
    "Q2_K": Layout(bits=4, block_size=32, zero_points=True),
    "Q3_K": Layout(bits=4, block_size=32, zero_points=True),
    "Q4_1": Layout(bits=4, block_size=32, zero_points=True),
    "Q4_K": Layout(bits=4, block_size=32, zero_points=True),
    "Q5_1": Layout(bits=8, block_size=32),
    "Q5_K": Layout(bits=8, block_size=32),
    "Q6_K": Layout(bits=8, block_size=32),
}


@dataclass(frozen=True)
class Packing:
    """One way of packing rows of a format.

    Attributes:
        format: of the stored rows.
        kind: `blocks` keeps GGML's blocks bit for bit; `quantise` makes blocks of `target` as
            GGML does; `requantise` rounds to `layout`.
        target: the format whose blocks are packed (`blocks`, `quantise`).
    """

    format: str
    kind: Literal["blocks", "quantise", "requantise"]
    layout: Layout
    target: str = ""

    @property
    def how(self) -> str:
        """The computation as part of a tensor's identity."""
        return f"{self.kind} {self.target or self.layout}"

    def keep(self, raw: NDArray[np.uint8]) -> PackedWeight:
        """Pack stored rows, uint8 [N, row_bytes], as they are (`blocks`)."""
        return PACKERS[self.format](raw)

    def round(self, values: NDArray[np.float32]) -> PackedWeight:
        """Pack float32 [N, K] (`quantise` and `requantise`)."""
        if self.kind == "quantise":
            from gguf import GGMLQuantizationType, quants

            return PACKERS[self.target](quants.quantize(values, GGMLQuantizationType[self.target]))
        if self.layout.bits == 8:
            return to_eight_bits(values, self.layout.block_size)
        return to_four_bits(values, self.layout.block_size)


def choose_packing(format: str, weights: Weights, gguf: Gguf) -> Packing | None:
    """Return how rows of a format are packed; None if they stay float."""
    if weights == "float" or (weights == "gguf" and format not in PACKERS):
        return None
    if weights == "gguf" and gguf == "fast" and format in FAST:
        return Packing(format, "requantise", FAST[format])
    target = format if weights == "gguf" else weights.upper()
    kind: Literal["blocks", "quantise"] = "blocks" if target == format else "quantise"
    return Packing(format, kind, LAYOUTS[target], target)
