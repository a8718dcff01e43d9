"""GGML's blocks packed for MatMulNBits: kept as they are, or made of whatever there is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from modelc.ir.coded import CodedMatrix
from modelc.ir.decode import decode_blocks
from modelc.ir.packing.blocks import PACKERS
from modelc.ir.packing.packing import PackedSlab
from modelc.ir.packing.recentre import recentre
from modelc.ir.packing.requantise import to_eight_bits
from modelc.ir.packing.slabs import slabs
from modelc.ir.packing.weight import Layout, PackedWeight
from modelc.ir.stored import StoredMatrix, release

SLAB_BYTES: Final = 1 << 17  # packed at once; small enough for the caches


@dataclass(frozen=True)
class BlockPacking:
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
        return f"{self.kind} {self.target or self.layout}"

    def slabs(self, source: StoredMatrix) -> Iterator[PackedSlab]:
        """Yield rows packed some at a time, and let go of the file's pages."""
        if isinstance(source, CodedMatrix):
            yield from ((self._made(values), values) for _, values in slabs(source))
            return
        raw = source.blocks()
        step = max(1, SLAB_BYTES // source.row_bytes)
        for first in range(0, len(raw), step):
            rows = raw[first : first + step]
            kept = self.kind == "blocks"
            yield self.pack(rows), None if kept else decode_blocks(rows, self.format)
            release(source)

    def rounds(self, source: StoredMatrix) -> str:
        if isinstance(source, CodedMatrix):
            return source.what
        return self.format if self.kind != "blocks" and self.format in PACKERS else ""

    def pack(self, raw: NDArray[np.uint8]) -> PackedWeight:
        """Pack stored rows, uint8 [N, row_bytes]."""
        if self.kind == "blocks":
            return PACKERS[self.format](raw)
        if self.kind == "recentre":
            return recentre(PACKERS[self.format](raw))
        values = decode_blocks(raw, self.format)
        if self.kind == "requantise":
            return to_eight_bits(values, self.layout.block_size)
        return self._made(values)

    def _made(self, values: NDArray[np.float32]) -> PackedWeight:
        """Make GGML's blocks of numbers."""
        from gguf import GGMLQuantizationType, quants

        return PACKERS[self.target](quants.quantize(values, GGMLQuantizationType[self.target]))
