"""Where buffers lie in one arena, so that those that live at different times share their bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from modelc.targets.cuda.plan import ALIGNMENT


@dataclass(frozen=True)
class Lifetime:
    """Bytes of a buffer, and the first and the last call that uses it."""

    size: int
    first: int
    last: int


def place(lifetimes: Mapping[str, Lifetime]) -> tuple[dict[str, int], int]:
    """Return the offset of each buffer, and the bytes of the arena.

    The largest first, each at the lowest place where it meets none that lives with it: greedy by
    size (Pisarchyk and Lee, arXiv:2001.03288).
    """
    offsets: dict[str, int] = {}
    placed: list[tuple[int, int, Lifetime]] = []  # first and last byte
    for name, life in sorted(lifetimes.items(), key=lambda item: (-item[1].size, item[0])):
        beside = sorted(
            (start, end)
            for start, end, other in placed
            if other.first <= life.last and life.first <= other.last
        )
        offset = 0
        for start, end in beside:
            if offset + life.size <= start:
                break
            offset = max(offset, _aligned(end))
        offsets[name] = offset
        placed.append((offset, offset + life.size, life))
    return offsets, _aligned(max((end for _, end, _ in placed), default=0))


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
