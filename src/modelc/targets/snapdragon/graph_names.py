"""Names of the decoder's graphs: `token_ar1_cl4096_2_of_3`.

Genie orders the parts of a model by the `_2_of_3` in the name of a QNN graph.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from modelc.errors import BadInput, Damaged

_PATTERN = re.compile(
    r"^(?:prompt|token)_ar(\d{1,9})_cl(\d{1,9})_(\d{1,9})_of_(\d{1,9})(?!\d)", re.A
)


@dataclass(frozen=True, order=True)
class GraphKey:
    """Which graph: new tokens per call, context length, part (from 1) of how many."""

    ar: int
    context_length: int
    part: int
    parts: int

    @property
    def place(self) -> str:
        """Return which part it is of, "2_of_3"."""
        return f"{self.part:0{len(str(self.parts))}}_of_{self.parts}"

    @property
    def name(self) -> str:
        kind = "token" if self.ar == 1 else "prompt"
        return f"{kind}_ar{self.ar}_cl{self.context_length}_{self.place}"


def parse(name: str) -> GraphKey:
    """Return the key of a graph's name, or of a QNN graph's name that begins with it.

    Raises:
        Damaged: the name is not of this form.
    """
    match = _PATTERN.match(name)
    if match is None:
        raise Damaged(f"{name!r} is not the name of a decoder's graph")
    ar, context_length, part, parts = map(int, match.groups())
    return GraphKey(ar, context_length, part, parts)


def check_complete(keys: Sequence[GraphKey]) -> None:
    """Check that there is every part of every AR length at every context length, once.

    Genie goes wrong where an AR length is missing at one of several context lengths.

    Raises:
        BadInput: there is not.
    """
    ars = {key.ar for key in keys}
    lengths = {key.context_length for key in keys}
    parts = max((key.parts for key in keys), default=0)
    complete = len(keys) == len(ars) * len(lengths) * parts > 0  # so `parts` is no wild number
    if not complete or set(keys) != {
        GraphKey(ar, length, part, parts)
        for ar, length, part in product(ars, lengths, range(1, parts + 1))
    }:
        raise BadInput(
            "the graphs are not every part of every AR length and context length of one model"
        )
