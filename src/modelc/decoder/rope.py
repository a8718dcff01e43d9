"""Tables of the rotary position embedding and the ways of stretching it over longer contexts.

Sources: RoPE, https://arxiv.org/abs/2104.09864; linear (position interpolation),
https://arxiv.org/abs/2306.15595; yarn, https://arxiv.org/abs/2309.00071; longrope,
https://arxiv.org/abs/2402.13753; llama3: Llama 3.1's reference code
(https://github.com/meta-llama/llama-models, `apply_scaling`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from modelc.decoder.config import Rope
from modelc.errors import BadInput

Floats = NDArray[np.float64]


def rope_tables(rope: Rope, context_length: int, max_context: int) -> tuple[np.ndarray, np.ndarray]:
    """Return cos and sin, float32 [context_length, rope.dim / 2], attention factor included.

    Column i turns dimensions i and i + rope.dim / 2 of a head (half-split layout). Angles are
    computed in float64.

    Raises:
        BadInput: a scaling parameter is missing or makes no sense.
    """
    positions = np.arange(context_length, dtype=np.float64)
    angles = positions[:, None] * frequencies(rope, context_length)
    factor = attention_factor(rope, max_context)
    return (factor * np.cos(angles)).astype(np.float32), (factor * np.sin(angles)).astype(
        np.float32
    )


def frequencies(rope: Rope, context_length: int) -> Floats:
    """Return the angle per position of every pair of dimensions, float64 [rope.dim / 2]."""
    plain: Floats = rope.theta ** (-np.arange(0, rope.dim, 2, dtype=np.float64) / rope.dim)
    if rope.frequency_divisors:
        return plain / _per_frequency(rope, rope.frequency_divisors, "frequency divisors")
    match rope.kind:
        case "default":
            return plain
        case "linear":
            return plain / _positive(rope.factor, rope, "factor")
        case "llama3":
            return _llama3(rope, plain)
        case "yarn":
            return _yarn(rope, plain)
        case "longrope":
            original = _positive(rope.original_context, rope, "original context")
            if context_length > original:
                return plain / _per_frequency(rope, rope.long_factors, "long factors")
            return plain / _per_frequency(rope, rope.short_factors, "short factors")


def attention_factor(rope: Rope, max_context: int) -> float:
    """Return what cos and sin are multiplied by."""
    if rope.attention_factor is not None:
        return _positive(rope.attention_factor, rope, "attention factor")
    if rope.kind == "yarn":
        if rope.mscale and rope.mscale_all_dim:
            whole = _positive(_yarn_mscale(rope, rope.mscale_all_dim), rope, "mscale_all_dim")
            return _yarn_mscale(rope, rope.mscale) / whole
        return _yarn_mscale(rope, 1.0)
    if rope.kind == "longrope":
        original = _positive(rope.original_context - 1, rope, "original context less one") + 1
        factor = rope.factor if rope.factor != 1.0 else max_context / original
        return math.sqrt(1 + math.log(max(factor, 1.0)) / math.log(original))
    return 1.0


def _llama3(rope: Rope, plain: Floats) -> Floats:
    """Keep short wavelengths, divide long ones by the factor, blend in between."""
    low, high = rope.low_freq_factor, rope.high_freq_factor
    if not low < high:
        raise BadInput(f"llama3 rope scaling: low_freq_factor {low} is not below {high}")
    original = _positive(rope.original_context, rope, "original context")
    rotations = original * plain / (2 * math.pi)
    kept = np.clip((rotations - low) / (high - low), 0.0, 1.0)
    return plain * (kept + (1 - kept) / _positive(rope.factor, rope, "factor"))


def _yarn(rope: Rope, plain: Floats) -> Floats:
    """Keep frequencies of more than `beta_fast` rotations over the original context, divide those
    of fewer than `beta_slow` by the factor, ramp over the dimensions in between."""
    original = _positive(rope.original_context, rope, "original context")

    def corner(rotations: float) -> float:
        turns = original / (_positive(rotations, rope, "beta") * 2 * math.pi)
        return rope.dim * math.log(turns) / (2 * math.log(rope.theta))

    first, last = corner(rope.beta_fast), corner(rope.beta_slow)
    if rope.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, rope.dim - 1)
    width = last - first or 0.001  # a ramp of no width would divide by zero
    divided: Floats = np.clip((np.arange(rope.dim // 2) - first) / width, 0.0, 1.0)
    return plain * (1 - divided + divided / _positive(rope.factor, rope, "factor"))


def _yarn_mscale(rope: Rope, scale: float) -> float:
    return 0.1 * scale * math.log(rope.factor) + 1.0 if rope.factor > 1.0 else 1.0


def _per_frequency(rope: Rope, values: tuple[float, ...], what: str) -> Floats:
    if len(values) != rope.dim // 2:
        raise BadInput(
            f"{rope.kind} rope scaling has {len(values)} {what}, but {rope.dim // 2} frequencies"
        )
    if not all(value > 0 and math.isfinite(value) for value in values):
        raise BadInput(f"{rope.kind} rope scaling: {what} must be positive")
    return np.array(values, np.float64)


def _positive(value: float, rope: Rope, what: str) -> float:
    if not (value > 0 and math.isfinite(value)):
        raise BadInput(f"{rope.kind} rope scaling: {what} must be positive, not {value}")
    return value
