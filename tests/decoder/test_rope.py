"""Rotary tables against transformers' own frequencies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modelc.decoder.config import Rope
from modelc.decoder.rope import attention_factor, frequencies, rope_tables
from modelc.errors import BadInput

FACTORS = {
    "short_factors": tuple(1.0 + 0.1 * i for i in range(8)),
    "long_factors": tuple(2.0 + 0.5 * i for i in range(8)),
}
ROPES = {
    "linear": Rope("linear", dim=16, factor=4.0),
    "llama3": Rope("llama3", 5e5, 16, factor=8.0, original_context=64),
    "llama3-corners": Rope(
        "llama3", dim=16, factor=8.0, original_context=128, low_freq_factor=2, high_freq_factor=3
    ),
    "yarn": Rope("yarn", dim=16, factor=4.0, original_context=64),
    "yarn-smooth": Rope("yarn", dim=16, factor=4.0, original_context=64, truncate=False),
    "yarn-betas": Rope(
        "yarn", dim=16, factor=4.0, original_context=512, beta_fast=8.0, beta_slow=2.0
    ),
    "yarn-mscale": Rope(
        "yarn", dim=16, factor=4.0, original_context=64, mscale=0.7, mscale_all_dim=0.3
    ),
    "yarn-attention": Rope("yarn", dim=16, factor=4.0, original_context=64, attention_factor=0.6),
    "longrope": Rope("longrope", dim=16, original_context=64, **FACTORS),
    "longrope-factor": Rope("longrope", dim=16, factor=6.0, original_context=64, **FACTORS),
}


@pytest.mark.parametrize("context", [48, 256])
@pytest.mark.parametrize("name", ROPES)
def test_as_in_transformers(name: str, context: int) -> None:
    rope = ROPES[name]
    expected, factor = transformers_frequencies(rope, context)
    np.testing.assert_allclose(frequencies(rope, context), expected, rtol=2e-6)
    assert attention_factor(rope, 256) == pytest.approx(factor, rel=1e-9)


def transformers_frequencies(rope: Rope, context: int) -> tuple[np.ndarray, float]:
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    names = {
        "original_context": "original_max_position_embeddings",
        "short_factors": "short_factor",
        "long_factors": "long_factor",
    }
    unset = Rope()
    parameters = {
        names.get(field, field): value
        for field, value in vars(rope).items()
        if field not in ("kind", "theta", "dim") and value != getattr(unset, field)
    }
    if rope.kind == "llama3":
        parameters |= {
            "low_freq_factor": rope.low_freq_factor,
            "high_freq_factor": rope.high_freq_factor,
        }
    parameters |= {"rope_type": rope.kind, "rope_theta": rope.theta}
    config = LlamaConfig(
        hidden_size=64,
        num_attention_heads=4,
        max_position_embeddings=256,
        rope_parameters=parameters,
    )
    made, factor = ROPE_INIT_FUNCTIONS[rope.kind](config, "cpu", seq_len=context)
    return made.numpy(), factor


def test_divisors_replace_the_formula() -> None:
    formula = ROPES["llama3"]
    divisors = frequencies(Rope(theta=5e5, dim=16), 64) / frequencies(formula, 64)
    given = Rope(theta=5e5, dim=16, kind="llama3", frequency_divisors=tuple(divisors))
    np.testing.assert_allclose(frequencies(given, 64), frequencies(formula, 64), rtol=1e-12)


def test_tables_hold_cos_and_sin_times_the_factor() -> None:
    rope = replace(ROPES["yarn-attention"])
    cos, sin = rope_tables(rope, 20, 256)
    assert cos.shape == sin.shape == (20, 8) and cos.dtype == np.float32
    angles = np.outer(np.arange(20), frequencies(rope, 20))
    np.testing.assert_allclose(cos, 0.6 * np.cos(angles), atol=1e-7)
    np.testing.assert_allclose(sin, 0.6 * np.sin(angles), atol=1e-7)


@pytest.mark.parametrize(
    ("rope", "message"),
    [
        (Rope("linear", dim=16, factor=0.0), "factor"),
        (Rope("llama3", dim=16, factor=8.0), "original context"),
        (
            Rope("llama3", dim=16, factor=8.0, original_context=64, high_freq_factor=1.0),
            "low_freq_factor",
        ),
        (Rope("yarn", dim=16, factor=float("nan"), original_context=64), "factor"),
        (Rope("longrope", dim=16, original_context=64, short_factors=(1.0,) * 3), "3 short"),
        (Rope("longrope", dim=16, original_context=64), "0 short"),
        (Rope("longrope", dim=16, original_context=1, **FACTORS), "original context"),
        (Rope(dim=16, frequency_divisors=(0.0,) * 8), "positive"),
        (Rope(dim=16, attention_factor=float("inf")), "attention factor"),
    ],
)
def test_senseless_scaling_is_refused(rope: Rope, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        rope_tables(rope, 32, 256)
