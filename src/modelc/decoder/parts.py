"""Consecutive parts that a decoder is compiled in, cut where one residual stream crosses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate


@dataclass(frozen=True)
class DecoderPart:
    """What one part holds: the embedding, or layers, or norm and head, or neighbours of these.

    Attributes:
        first, last: its layers, half-open; equal if it has none.
        embedding: it begins with the token ids.
        head: it ends with the final norm and the logits.
    """

    first: int
    last: int
    embedding: bool = False
    head: bool = False

    def holds(self, weight: str) -> bool:
        """Return whether a weight, by its name in Hugging Face's llama, is of this part."""
        if weight.startswith("model.layers."):
            return self.first <= int(weight.split(".")[2]) < self.last
        return self.embedding if weight.startswith("model.embed_tokens.") else self.head

    def __str__(self) -> str:
        """For people: "embedding", "layers 0-7", "layers 8-15 + head"."""
        count = self.last - self.first
        layers = f"layers {self.first}-{self.last - 1}" if count > 1 else f"layer {self.first}"
        named = {"embedding": self.embedding, layers: count > 0, "head": self.head}
        return " + ".join(name for name, held in named.items() if held)


def cut_decoder(layers: Sequence[int], head: int, count: int) -> tuple[DecoderPart, ...]:
    """Cut a decoder into `count` parts: the embedding alone, and the rest so that the most
    expensive part is as cheap as can be; the head may come to be alone. One part is the whole.

    Args:
        layers: cost of each layer.
        head: cost of the final norm and the head.

    Raises:
        ValueError: there are fewer places to cut.
    """
    number = len(layers)
    if count == 1:
        return (DecoderPart(0, number, embedding=True, head=True),)
    ends = _balanced((*layers, head), count - 1)
    starts = (0, *ends[:-1])
    parts = [
        DecoderPart(min(start, number), min(end, number), head=end > number)
        for start, end in zip(starts, ends, strict=True)
    ]
    return (DecoderPart(0, 0, embedding=True), *parts)


def _balanced(costs: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Return where each of `count` runs of neighbours ends, the dearest run being cheapest."""
    if not 1 <= count <= len(costs):
        raise ValueError(f"{len(costs)} modules can't be cut into {count}")
    starts, end, ends = _starts(costs), len(costs), list[int]()
    for runs in range(count, 0, -1):
        ends.append(end)
        end = starts[runs][end]
    return tuple(reversed(ends))


@lru_cache(maxsize=4)  # a decoder is cut into every number of parts before one is chosen
def _starts(costs: tuple[int, ...]) -> list[list[int]]:
    """Return, for every number of runs and every end, where the last run starts."""
    size, total = len(costs), [0, *accumulate(costs)]
    dearest = list(total)
    starts = [[0] * (size + 1), [0] * (size + 1)]
    for runs in range(2, size + 1):
        places, before = [0] * (size + 1), dearest
        dearest = list(total)
        for end in range(runs, size + 1):
            dearest[end], places[end] = min(
                (max(before[start], total[end] - total[start]), start)
                for start in range(runs - 1, end)
            )
        starts.append(places)
    return starts
