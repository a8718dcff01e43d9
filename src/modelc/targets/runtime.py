"""What every target that can run here offers: logits of a sequence, and generation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from modelc.errors import BadInput


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen; temperature 0 is greedy. top_k 0 and top_p 1 are off.

    Raises:
        BadInput: a value out of its range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        ranges = {
            "temperature": 0 <= self.temperature < math.inf,
            "top_k": self.top_k >= 0,
            "top_p": 0 < self.top_p <= 1,
            "repetition_penalty": 0 < self.repetition_penalty < math.inf,
            "seed": self.seed >= 0,
        }
        if wrong := [f"{name} {getattr(self, name)}" for name, fits in ranges.items() if not fits]:
            raise BadInput(
                f"sampling: {', '.join(wrong)} is out of range",
                hint="temperature, top_k and seed from 0, top_p in (0, 1], penalty above 0",
            )


@dataclass(frozen=True)
class Generation:
    """New tokens (a stop token, if one ended it, is not among them) and the time they took."""

    token_ids: tuple[int, ...]
    prompt_tokens: int
    prefill_seconds: float
    decode_seconds: float

    @property
    def prefill_tokens_per_s(self) -> float:
        return self.prompt_tokens / self.prefill_seconds if self.prefill_seconds else 0.0

    @property
    def decode_tokens_per_s(self) -> float:
        steps = len(self.token_ids) - 1  # the first token comes out of the prefill
        return steps / self.decode_seconds if steps > 0 and self.decode_seconds else 0.0


OnToken = Callable[[int], None]


@dataclass(frozen=True)
class Finding:
    """One thing that a runtime found out about its own bundle while it was verified."""

    name: str
    passed: bool
    detail: str


class Runtime(Protocol):
    """A loaded bundle."""

    name: str
    """"onnxruntime", "htp-simulator", ...: whose numbers these are."""

    def logits(self, token_ids: Sequence[int]) -> np.ndarray:
        """Return float32 [len(token_ids), vocab]: the logits after each token of one sequence."""

    def generate(
        self,
        prompt_ids: Sequence[int],
        sampling: Sampling,
        max_new_tokens: int,
        stop_ids: Sequence[int],
        on_token: OnToken | None = None,
    ) -> Generation:
        """Generate until a stop token, `max_new_tokens` or the end of the context."""

    def findings(self, token_ids: Sequence[int], logits: np.ndarray) -> Sequence[Finding]:
        """Check what only this target can: that its ways of running agree with `logits`
        (its own, of the verification text), that the binaries are for the right chipset, ..."""

    def close(self) -> None:
        """Free what is held; the runtime is unusable afterwards."""
