"""Sizes of the tensors that calls are given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from modelc.targets.cuda.plan import LaunchPlan

INPUT_SIZES: Final[Mapping[str, str]] = {
    "input_ids": "tokens",
    "position_ids": "tokens",
    "slots": "tokens",
    "wanted": "rows",
    "block_tables": "sequences",
    "starts": "sequences",
    "lengths": "sequences",
}
"""The symbol that the first side of an input goes by; `starts` has one more."""


def input_sides(plan: LaunchPlan) -> dict[str, tuple[int, ...]]:
    """Return the sides of each input for the greatest call; all are int32."""
    most = {
        symbol: max(function.most[symbol] for function in plan.functions)
        for symbol in ("tokens", "sequences", "rows", "max_pages")
    }
    sides: dict[str, tuple[int, ...]] = {
        name: (most[symbol],) for name, symbol in INPUT_SIZES.items()
    }
    sides["starts"] = (most["sequences"] + 1,)
    sides["block_tables"] = (most["sequences"], most["max_pages"])
    return sides


def input_bytes(plan: LaunchPlan) -> int:
    """Return what all inputs take, one after the other."""
    return 4 * sum(aligned(math.prod(sides)) for sides in input_sides(plan).values())


def aligned(count: int) -> int:
    """Return how many int32 an input of so many takes: whole pieces of 256 bytes."""
    return -(-count // 64) * 64
