"""What differs between decoder architectures in structure; sizes and constants are in the config.

Biases need no flag: a linear layer has one where the source has its `.bias` weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from modelc.errors import BadInput, nearest


@dataclass(frozen=True)
class Architecture:
    """One row.

    Attributes:
        head_norms: queries and keys are RMS-normalised per head before the rotary embedding.
        post_norms: attention and feed-forward are normalised before and after (gemma2), not
            only before.
        experts: layers may have a mixture of experts; which ones is in the config.
    """

    name: str
    head_norms: bool = False
    post_norms: bool = False
    experts: bool = False


ARCHITECTURES: Final[Mapping[str, Architecture]] = {
    row.name: row
    for row in (
        Architecture("llama"),
        Architecture("mistral"),
        Architecture("qwen2"),
        Architecture("qwen3", head_norms=True),
        Architecture("gemma2", post_norms=True),
        Architecture("phi3"),
        Architecture("mixtral", experts=True),
        Architecture("qwen2_moe", experts=True),
        Architecture("qwen3_moe", head_norms=True, experts=True),
    )
}


def find_architecture(name: str) -> Architecture:
    """Raises BadInput, with the nearest names as a hint, if there is no such row."""
    if name not in ARCHITECTURES:
        raise BadInput(f"unknown architecture {name!r}", hint=nearest(name, ARCHITECTURES))
    return ARCHITECTURES[name]
