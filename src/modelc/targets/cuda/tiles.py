"""How each kernel divides its work on an architecture: tuned tiles, or else its own default."""

from __future__ import annotations

from dataclasses import replace

from modelc.targets.cuda.variant import Variant


def tiled(variant: Variant, arch: int) -> Variant:
    """Return a variant with the tile that it has on an architecture."""
    return replace(variant, tile=variant.row.tile(variant.constants, arch))
