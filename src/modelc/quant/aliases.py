"""MLC-LLM's names of quantisation schemes, and what they mean here.

Its groups of symmetric codes have the largest magnitude at the last code; here scales are searched
for. Both of its layouts (_0 and _1) hold the same numbers. Its 4-bit names quantise the head to 4
bits as well, and the table; here the head has 8 and the table stays, at a better perplexity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Alias:
    """One name.

    Attributes:
        schemes: target family -> scheme.
        algorithms: those that the name stands for, applied unless others are asked for.
    """

    schemes: Mapping[str, str]
    algorithms: tuple[str, ...] = ()


_FOUR: Final = Alias({"cpu": "w4_b32", "snapdragon": "w4a16_b32", "cuda": "w4f16_b32"})
_FOUR_BF16: Final = Alias({**_FOUR.schemes, "cuda": "w4bf16_b32"})
_AWQ: Final = Alias({"cpu": "u4_b128", "cuda": "u4f16_b128"}, algorithms=("awq",))
_THREE: Final = Alias({"cpu": "w3_b40"})

ALIASES: Final[Mapping[str, Alias]] = {
    "q0f32": Alias({"cpu": "fp32"}),
    "q0f16": Alias({"cpu": "fp32", "snapdragon": "fp16", "qaic": "fp16", "cuda": "fp16"}),
    "q0bf16": Alias({"cpu": "fp32", "cuda": "bf16"}),
    "q4f16_0": _FOUR,
    "q4f16_1": _FOUR,
    "q4bf16_0": _FOUR_BF16,
    "q4bf16_1": _FOUR_BF16,
    "q4f32_1": _FOUR,
    "q4f16_2": Alias({"cpu": "w4_b32_h16"}),
    "awq": _AWQ,
    "q4f16_autoawq": _AWQ,
    "q3f16_0": _THREE,
    "q3f16_1": _THREE,
    "e4m3_e4m3_f16": Alias({"cpu": "e4m3_e4m3", "cuda": "fp8"}),
    "e5m2_e5m2_f16": Alias({"cpu": "e5m2_e5m2"}),
    "fp8_e4m3fn_bf16_block_scale": Alias({"cpu": "e4m3_b128", "cuda": "fp8_block"}),
}


def names_of(scheme: str) -> list[str]:
    """Return the aliases of a scheme."""
    return [name for name, alias in ALIASES.items() if scheme in alias.schemes.values()]
