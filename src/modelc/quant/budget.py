"""How much of a model quantisation may cost: in perplexity, noise, divergence or size.

Perplexity is that of a text, and of what the float model itself would write: there it rises by
e^KL, the divergence being the mean of what a token's log-likelihood loses. On a text that is not of
the kind that a model knows, noise may well lower its perplexity, by making it less sure of what is
wrong; of a few thousand tokens the change is mostly chance. The higher of the two counts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from modelc.errors import BadInput

Metric = Literal["ppl", "sqnr", "kl", "size", "bits"]

EXAMPLES: Final = "ppl+1%, sqnr>=25dB, kl<=0.01, size<=500MB or bits<=4.5"


@dataclass(frozen=True)
class Cost:
    """What quantising a model costs.

    Attributes:
        perplexity_ratio: to the float model's.
        sqnr_db: of the logits.
        kl_divergence: of the logits to the float model's, mean nats per token.
        size: bytes of all matrices, table and head included, with the scales of blocks.
        bits: of `size` per weight.
    """

    perplexity_ratio: float
    sqnr_db: float
    kl_divergence: float
    size: int
    bits: float


@dataclass(frozen=True)
class Budget:
    """One limit.

    Attributes:
        limit: ppl: ratio to the float model's perplexity; sqnr: dB, at least; kl: nats; size:
            bytes; bits: per weight.
        text: as it was asked for.
    """

    metric: Metric
    limit: float
    text: str

    @property
    def is_size(self) -> bool:
        """It can be told without running the model."""
        return self.metric in ("size", "bits")

    def used(self, cost: Cost) -> float:
        """Return the share of what is allowed that a cost takes: more than 1 exceeds the budget."""
        share = _USED[self.metric](cost, self.limit)
        return math.inf if math.isnan(share) else share

    def __str__(self) -> str:
        return self.text


def perplexity_rise(cost: Cost) -> float:
    """Return by what factor perplexity rises, of the text or of what the float model writes."""
    return max(cost.perplexity_ratio, math.exp(min(cost.kl_divergence, 700)))


def parse_budget(text: str) -> Budget:
    """Read "ppl+1%", "sqnr>=25dB", "kl<=0.01", "size<=500MB" (MB of 10^6, MiB of 2^20 bytes) or
    "bits<=4.5".

    Raises:
        BadInput: it is none of these, or allows nothing.
    """
    compact = re.sub(r"\s+", "", text).lower()
    for metric, pattern in _FORMS.items():
        if found := re.fullmatch(pattern, compact):
            number, unit = float(found[1]), found.groupdict().get("unit") or ""
            limit = 1 + number / 100 if metric == "ppl" else number * _UNITS[unit]
            if number > 0 and math.isfinite(limit):
                return Budget(metric, limit, text.strip())
    raise BadInput(f"{text!r} is no budget", hint=f"such as {EXAMPLES}")


_NUMBER: Final = r"(\d{1,12}(?:\.\d{1,12})?|\.\d{1,12}|\d{1,12}(?:\.\d{1,12})?e-\d{1,2})"
_FORMS: Final[Mapping[Metric, str]] = MappingProxyType(
    {
        "ppl": rf"ppl\+{_NUMBER}%",
        "sqnr": rf"sqnr>=?{_NUMBER}(?:db)?",
        "kl": rf"kl<=?{_NUMBER}",
        "size": rf"size<=?{_NUMBER}(?P<unit>[kmg]i?b)",
        "bits": rf"bits<=?{_NUMBER}",
    }
)
_UNITS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "": 1,
        **{f"{letter}b": 1000 ** (power + 1) for power, letter in enumerate("kmg")},
        **{f"{letter}ib": 1024 ** (power + 1) for power, letter in enumerate("kmg")},
    }
)
_USED: Final[Mapping[Metric, Callable[[Cost, float], float]]] = MappingProxyType(
    {
        "ppl": lambda cost, limit: (perplexity_rise(cost) - 1) / (limit - 1),
        "sqnr": lambda cost, limit: 10 ** ((limit - cost.sqnr_db) / 10),
        "kl": lambda cost, limit: cost.kl_divergence / limit,
        "size": lambda cost, limit: cost.size / limit,
        "bits": lambda cost, limit: cost.bits / limit,
    }
)
