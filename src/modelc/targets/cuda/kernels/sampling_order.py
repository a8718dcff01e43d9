"""What the kernels of sampling agree on: how tokens compete, what they weigh, and their bins.

Weights are integers: they add up to the same in any order, so that every kernel that finds a place
among cumulated weights finds the same one.
"""

from __future__ import annotations

import triton
import triton.language as tl

LARGEST = tl.constexpr(1e38)  # differences of such are still finite
UNIT = tl.constexpr(2.0**40)  # the likeliest token's weight; 2**22 of these fit into 63 bits
REACH = tl.constexpr(32.0)  # beyond 40 * ln(2) = 27.7 below the peak, weights are 0


@triton.jit
def standing(logits, penalty, seen, row, ids, inside, vocab: tl.constexpr):
    """Logits as they compete: seen tokens penalised (CTRL, arXiv:1909.05858), NaN last, infinities
    finite, and one zero only."""
    places = row * vocab + ids
    values = tl.load(logits + places, mask=inside, other=0.0)
    if seen is not None:
        factor = tl.load(penalty + row)
        marked = tl.load(seen + places, mask=inside, other=0) != 0
        lowered = tl.where(values > 0.0, tl.div_rn(values, factor), values * factor)
        values = tl.where(marked, lowered, values)
    values = tl.where(values == values, values, -LARGEST)
    values = tl.minimum(tl.maximum(values, -LARGEST), LARGEST)
    return tl.where(values == 0.0, 0.0, values)


@triton.jit
def row_peak(part_peak, row, vocab: tl.constexpr, part: tl.constexpr, PARTS: tl.constexpr):
    """The largest of a row's values."""
    count: tl.constexpr = (vocab + part - 1) // part
    parts = tl.arange(0, PARTS)
    peaks = tl.load(part_peak + row * count + parts, mask=parts < count, other=-LARGEST)
    return tl.max(peaks, 0)


@triton.jit
def distances(values, peak, temperature):
    """How far below the peak values lie, as the exponential takes it."""
    return (peak - values) * tl.minimum(1.0 / temperature, LARGEST)


@triton.jit
def weights_of(distance):
    """exp(-distance) in units of 2^-40, int64."""
    return (tl.exp(-distance) * UNIT).to(tl.int64)


@triton.jit
def bins_of(distance, bins: tl.constexpr):
    """In which of `bins` equal bins a distance lies, bin 0 for the likeliest; of lanes that hold no
    token, in any."""
    return tl.minimum(tl.maximum(distance, 0.0) * (bins / REACH), bins - 1.0).to(tl.int32)


@triton.jit
def ranks_of(values, ids):
    """An int64 for each token: the larger value has the larger one, the lower id among equals."""
    bits = values.to(tl.int32, bitcast=True)
    ordered = tl.where(bits >= 0, bits, bits ^ 0x7FFFFFFF).to(tl.int64)
    return (ordered << 32) | (0x7FFFFFFF - ids).to(tl.int64)


@triton.jit
def id_of(rank):
    """The token that has a rank."""
    return (0x7FFFFFFF - (rank & 0x7FFFFFFF)).to(tl.int32)
