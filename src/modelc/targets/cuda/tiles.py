"""How each kernel divides its work on an architecture: tuned tiles, or else its own default.

The tuned tile is that of the row of the table for this very kernel, architecture, types, constants
and number of tokens; else that of the nearest row. Rows are near only within a group: same kernel,
architecture, types and constants but sizes. Between two sizes the distance is how often one doubles
to the other, between two shapes the sum over their sizes and the number of tokens; beyond
`FARTHEST` no row is near. A row whose tile would be wrong for a variant, such as one that cuts its
groups apart, is passed over.
"""

from __future__ import annotations

from dataclasses import replace
from math import log2
from typing import Final

from modelc.targets.cuda.candidates import fits
from modelc.targets.cuda.plan import LaunchPlan
from modelc.targets.cuda.tile_table import (
    TileTable,
    TunedTile,
    group_of_variant,
    shape_of,
    shipped,
)
from modelc.targets.cuda.variant import Variant

FARTHEST: Final = 3.0
"""Doublings: a shape that is in all eight times as large is another one."""


def tiled(
    variant: Variant, arch: int, *, tokens: int = 0, table: TileTable | None = None
) -> Variant:
    """Return a variant with the tile that it has on an architecture.

    Args:
        tokens: most tokens that it is launched for; 0 for any.
        table: None for the one that modelc ships.
    """
    default = variant.row.tile(variant.constants, arch)
    rows = (table or shipped()).groups.get(group_of_variant(variant, arch), ())
    for distance, row in sorted(
        ((_distance(row, variant, tokens), row) for row in rows), key=lambda pair: pair[0]
    ):
        tile = row.whole_tile(default)
        if distance <= FARTHEST and fits(variant, tile):
            return replace(variant, tile=tile)
    return replace(variant, tile=default)


def launched_tokens(plan: LaunchPlan) -> dict[str, tuple[int, int]]:
    """Return, for each variant, the least and the most tokens of the functions that launch it."""
    found: dict[str, tuple[int, int]] = {}
    for function in plan.functions:
        tokens = function.most["tokens"]
        for call in (*function.calls, *function.greedy, *function.sampled):
            if call.kernel:
                least, most = found.get(call.kernel, (tokens, tokens))
                found[call.kernel] = min(least, tokens), max(most, tokens)
    return found


def _distance(row: TunedTile, variant: Variant, tokens: int) -> float:
    ours, theirs = shape_of(variant.constants), shape_of(row.constants)
    apart = sum(abs(log2((ours[name] + 1) / (theirs[name] + 1))) for name in ours)
    least, most = row.tokens
    if tokens and not least <= tokens <= most:
        apart += abs(log2(tokens / (least if tokens < least else most)))
    return apart
