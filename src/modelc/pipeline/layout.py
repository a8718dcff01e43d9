"""What a decoder is compiled into for a Snapdragon: its parts, and the lengths of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from modelc.decoder.parts import DecoderPart
from modelc.targets.snapdragon.graph_names import GraphKey


@dataclass(frozen=True)
class Layout:
    """One graph for every part, AR length and context length.

    Attributes:
        ars, context_lengths: most first.
        parts: in the order in which they run.
        grouped: the query heads of a key head are the rows of one product, not branches.
        why: why there are so many parts, for people.
    """

    ars: tuple[int, ...]
    context_lengths: tuple[int, ...]
    parts: tuple[DecoderPart, ...]
    grouped: bool
    why: str

    @property
    def lengths(self) -> tuple[tuple[int, int], ...]:
        """Every (AR, context length), the longest first."""
        return tuple((ar, length) for length in self.context_lengths for ar in self.ars)

    @property
    def places(self) -> tuple[str, ...]:
        """Each part's name, "1_of_3"."""
        return tuple(place for place, _ in self.numbered())

    def numbered(self) -> Iterator[tuple[str, DecoderPart]]:
        """Yield each part with its name."""
        count = len(self.parts)
        for number, part in enumerate(self.parts, 1):
            yield GraphKey(1, 1, number, count).place, part

    def part(self, place: str) -> DecoderPart:
        return dict(self.numbered())[place]

    def graph_name(self, ar: int, context_length: int, place: str) -> str:
        """Return the name of one graph of a part."""
        number = self.places.index(place) + 1
        return GraphKey(ar, context_length, number, len(self.parts)).name

    def rows(self, ar: int, context_length: int) -> dict[str, list[int | bool]]:
        """Return the parts of one (AR, context length) by graph name, as plain values."""
        return {
            self.graph_name(ar, context_length, place): [
                part.first,
                part.last,
                part.embedding,
                part.head,
            ]
            for place, part in self.numbered()
        }

    @property
    def with_heads(self) -> tuple[str, ...]:
        """Names of the parts that have attention."""
        return tuple(place for place, part in self.numbered() if part.last > part.first)


def lengths_name(ar: int, context_length: int) -> str:
    """Return "ar128_cl4096", as in the names of graphs and steps."""
    return f"ar{ar}_cl{context_length}"
