"""Which options of a recipe which bundles have a use for; elsewhere they are refused, and left out
of what people read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

NETWORK: Final = "network"
"""The runtime of models that are no decoders; a decoder's is its target's family."""

ONLY_FOR: Final[Mapping[str, tuple[str, ...]]] = {
    "gguf": ("cpu",),
    "toolchain": ("snapdragon", "qaic"),
    "qaic": ("qaic",),
    "cuda": ("cuda",),
    "kv_bits": ("snapdragon", "cuda"),
    "network": (),
    **dict.fromkeys(
        (
            "ar", "attention", "encodings", "format", "keep_twins", "memory_limit", "splits",
        ),
        ("snapdragon",),
    ),
}  # fmt: skip
"""Options that only decoders of some families have."""

ONLY_FOR_DECODERS: Final = (
    "budget", "kv_bits", "context_length", "ar", "splits", "attention", "encodings", "gguf",
    "keep_twins", "algorithms", "algorithm_options", "toolchain", "qaic", "cuda",
)  # fmt: skip
ONLY_FOR_TEXTS: Final[Mapping[str, tuple[str, ...]]] = {
    "calibration": ("text", "sequence_length"),
    "verify": ("text", "tokens", "min_top1", "max_perplexity_ratio", "max_kl_divergence"),
}
"""Options of sections that only decoders have."""
_ONLY_FOR_FEEDS: Final = {"verify": ("data", "samples", "min_cosine", "min_agreement")}


def used_by(runtime: str, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's document without what bundles of a runtime have no use for."""
    if runtime == NETWORK:
        useless, inner = set(ONLY_FOR_DECODERS), ONLY_FOR_TEXTS
    else:
        useless = {name for name, families in ONLY_FOR.items() if runtime not in families}
        inner = _ONLY_FOR_FEEDS
    return {
        name: {key: row for key, row in value.items() if key not in inner.get(name, ())}
        if isinstance(value, Mapping)
        else value
        for name, value in recipe.items()
        if name not in useless
    }
