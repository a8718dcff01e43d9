"""Compute-context-lengths: how much of the KV cache attention reads, one binary for several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from modelc.targets.qaic.generations import Generation
from modelc.targets.qaic.options import QpcOptions

_SHORTEST: Final = 1024
_STEP: Final = 32
_UNIT: Final = 1024
_LEAST_SPLIT: Final = 4096
_MOST: Final = 5
_STARTS: Final = ((32768, 4096, 4000), (65536, 8192, 8000), (None, 16384, 16000))
"""Longest context, first length of the decode, first of the prefill."""


def choose_lengths(
    options: QpcOptions, generation: Generation
) -> tuple[list[int] | None, list[int] | None, int]:
    """Return the lengths of the prefill, those of the decode, and the context length.

    The compiler wants every length once, so a length of the prefill that the decode has too gives
    way. Without any given, lengths that double are chosen and the context is rounded up to 1024.
    """
    prefill = list(options.comp_ctx_lengths_prefill or ())
    decode = list(options.comp_ctx_lengths_decode or ())
    context, one_token = options.ctx_len, options.prefill_seq_len == 1
    if generation.compute_lengths == "steps of 1":
        if not prefill and not decode:
            return _doubling(context, one_token, prefill_reaches=False)
        return *_apart_by_one(prefill, decode, context, one_token), context
    if not prefill and not decode:
        prefill, decode, context = _doubling(context, one_token, prefill_reaches=True)
    prefill, decode = (_reaching(lengths or [context], context) for lengths in (prefill, decode))
    if one_token:
        both = sorted({*prefill, *decode})
        return both, both, context
    return _distinct(prefill, decode, _STEP), decode, context


def _reaching(lengths: Sequence[int], context: int) -> list[int]:
    """Lengths of at least 1024, sorted, up to the context's."""
    longer = [max(length, _SHORTEST) for length in lengths]
    if longer[-1] < context:
        longer.append(context)
    return sorted({min(length, context) for length in longer})


def _apart_by_one(
    prefill: list[int], decode: list[int], context: int, one_token: bool
) -> tuple[list[int] | None, list[int] | None]:
    within = [sorted({min(length, context) for length in lengths}) for lengths in (prefill, decode)]
    if one_token:
        both = sorted({*within[0], *within[1]})
        return (both, both) if prefill and decode else (prefill or None, decode or None)
    if prefill and decode:
        within[0] = _distinct(within[0], within[1], 1)
    return within[0] or None, within[1] or None


def _distinct(prefill: list[int], decode: list[int], step: int) -> list[int]:
    """Lower what the decode has too to the next multiple of `step`; what runs out is dropped."""
    kept: list[int] = []
    for length in prefill:
        while length >= 0 and (length in decode or length in kept):
            length = (length - 1) // step * step
        if length >= 0:
            kept.append(length)
    return sorted(kept)


def _doubling(
    context: int, one_token: bool, prefill_reaches: bool
) -> tuple[list[int], list[int], int]:
    context = -(-context // _UNIT) * _UNIT
    if context <= _LEAST_SPLIT:
        return [context], [context], context
    if one_token:
        both = _doubled(_LEAST_SPLIT, context, 2 * _MOST, last=context)
        return both, both, context
    row = next(row for row in _STARTS if row[0] is None or context <= row[0])
    decode = _doubled(row[1], context, _MOST, last=context)
    is_power = context & (context - 1) == 0
    prefill = _doubled(row[2], context, _MOST, last=None if is_power else context // 1000 * 1000)
    if prefill_reaches:
        prefill[-1] = context
    return prefill, decode, context


def _doubled(start: int, limit: int, most: int, last: int | None) -> list[int]:
    lengths: list[int] = []
    while start <= limit and len(lengths) < most:
        lengths.append(start)
        start *= 2
    if last is not None and lengths[-1] != last:
        if len(lengths) < most:
            lengths.append(last)
        else:
            lengths[-1] = last
    return lengths
