"""Into how many splits attention cuts sequences when it decodes."""

from __future__ import annotations

from typing import Final

WAVE: Final = 2  # programs for each multiprocessor: what one waits for, another uses
LEAST: Final = 256  # positions: below, a split's start and its merging cost more than its reading
MOST: Final = 128


def splits_for(sequences: int, kv_heads: int, context_length: int, sms: int) -> int:
    """Return how many splits a launch for `sequences` should be compiled for.

    As many as fill `sms` multiprocessors with `WAVE` programs each, but none that would have fewer
    than `LEAST` positions of a sequence as long as the context.
    """
    filling = WAVE * sms // (sequences * kv_heads)
    return max(min(filling, context_length // LEAST, MOST), 1)
