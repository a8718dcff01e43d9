"""Sizes of the tensors that calls are given."""

from __future__ import annotations

import math

from modelc.targets.cuda.inputs import INPUTS
from modelc.targets.cuda.kernel import SYMBOLS
from modelc.targets.cuda.plan import LaunchPlan


def input_sides(plan: LaunchPlan) -> dict[str, tuple[int, ...]]:
    """Return the sides of each input for the greatest call."""
    most = {symbol: max(one.most[symbol] for one in plan.functions) for symbol in SYMBOLS}
    return {name: tuple(dim.of(most) for dim in one.dims) for name, one in INPUTS.items()}


def seen_sides(plan: LaunchPlan) -> tuple[int, int]:
    """Return the sides of `seen`."""
    return max(one.most["sequences"] for one in plan.functions), plan.vocabulary


def input_bytes(plan: LaunchPlan) -> int:
    """Return what all inputs take: the block, and `seen`."""
    staged = sum(aligned(math.prod(sides)) for sides in input_sides(plan).values())
    return 4 * staged + math.prod(seen_sides(plan))


def aligned(count: int) -> int:
    """Return how many elements an input of so many takes: whole pieces of 256 bytes."""
    return -(-count // 64) * 64
