"""How rows of a stored format are packed for MatMulNBits by schemes that go by GGML's blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from modelc.ir.packing.block_packing import BlockPacking
from modelc.ir.packing.blocks import LAYOUTS, PACKERS
from modelc.ir.packing.form_packing import FormPacking, form_packing
from modelc.ir.packing.kinds import KINDS
from modelc.ir.packing.weight import Layout
from modelc.ir.stored import BLOCKS

Blocks = Literal["float", "gguf", "q8_0", "q4_0"]
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


# The kinds that are most like GGML's blocks, for codes that lie otherwise and may fit them.
_LIKE: Final[Mapping[str, str]] = {"q8_0": "w8_b32", "q4_0": "w4_b32"}


def choose_packing(format: str, blocks: Blocks, gguf: Gguf) -> BlockPacking | FormPacking | None:
    """Return how rows of a format are packed; None if they stay float."""
    if blocks == "float" or (blocks == "gguf" and format not in PACKERS):
        return None
    if format not in BLOCKS:
        form = KINDS[_LIKE[blocks]]
        return form_packing(form, form.block)
    if blocks == "gguf" and gguf == "fast" and format in FAST:
        return BlockPacking(format, *FAST[format])
    target = format if blocks == "gguf" else blocks.upper()
    kind: Literal["blocks", "quantise"] = "blocks" if target == format else "quantise"
    return BlockPacking(format, kind, LAYOUTS[target], target)
