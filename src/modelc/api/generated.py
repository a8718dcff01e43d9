"""What a bundle wrote, and what it took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelc.targets.runtime import Generation


@dataclass(frozen=True)
class GeneratedText:
    """Text that a bundle wrote, and what it took; rates in tokens per second.

    Attributes:
        first_token_seconds: from the start of the prompt to the first token.
    """

    text: str
    token_ids: tuple[int, ...]
    prompt_tokens: int
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    first_token_seconds: float

    def document(self) -> dict[str, Any]:
        """Return the JSON form that scripts rely on."""
        return {**vars(self), "token_ids": list(self.token_ids)}


def generated(text: str, result: Generation) -> GeneratedText:
    """Return the text of a generation."""
    return GeneratedText(
        text,
        result.token_ids,
        result.prompt_tokens,
        result.prefill_tokens_per_s,
        result.decode_tokens_per_s,
        result.prefill_seconds,
    )
