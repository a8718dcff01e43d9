"""What each part of a decoder takes on the device, and what compiling it takes here."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

from modelc.decoder.config import DecoderConfig, DecoderModel
from modelc.decoder.parts import DecoderPart, cut_decoder
from modelc.errors import BadInput
from modelc.ir.stored import tensor_shape

# A context on the device addresses 4 GB; this much of it can be used.
HTP_LIMIT: Final = 3_500_000_000

# What compiling takes, measured with parts of a 1B model for two graphs and for six: so much in
# any case; for each of a matrix's bytes on the device, and for each of its weights and each graph;
# a table, which is only looked up, takes several copies for each graph.
HOST_BASE: Final = 400_000_000
HOST_PER_BYTE: Final = 2.6
HOST_PER_WEIGHT_AND_GRAPH: Final = 2.75
HOST_PER_TABLE_BYTE_AND_GRAPH: Final = 3.75


@dataclass(frozen=True)
class PartSize:
    """Bytes that one part takes.

    Attributes:
        weights, kv_cache, activations: on the device.
        host: at the peak of compiling it.
        elements: how many numbers its weights have.
    """

    elements: int
    weights: int
    kv_cache: int
    activations: int
    host: int

    @property
    def device(self) -> int:
        return self.weights + self.kv_cache + self.activations


@dataclass(frozen=True)
class Sizes:
    """What modules take, from which parts are summed up.

    Attributes:
        bits: of each weight by name, scales included.
        scheme_bits: what they would be without overrides. The decoder is cut by these, so that an
            override redoes no parts that it doesn't touch.
        kv_per_layer: bytes of one layer's KV cache.
        activations: bytes that one layer needs besides.
        graphs: how many of a part are compiled together.
    """

    model: DecoderModel
    bits: Callable[[str], float]
    scheme_bits: Callable[[str], float]
    kv_per_layer: int
    activations: int
    graphs: int

    def part(self, part: DecoderPart) -> PartSize:
        modules: list[str | int] = [*range(part.first, part.last)]
        modules += ["embedding"] * part.embedding + ["head"] * part.head
        tallies = [self._tallies[module] for module in modules]
        layers = part.last - part.first
        return PartSize(
            elements=sum(tally.elements for tally in tallies),
            weights=sum(tally.device for tally in tallies),
            kv_cache=layers * self.kv_per_layer,
            activations=self.activations if layers else 0,
            host=HOST_BASE + sum(tally.host for tally in tallies),
        )

    def cut(self, count: int) -> tuple[DecoderPart, ...]:
        """Cut the decoder so that the largest part is smallest.

        Raises:
            ValueError: into more parts than it has places to cut.
        """
        costs: dict[str | int, int] = {}
        for name, elements in self.elements.items():
            module = _module(name)
            costs[module] = costs.get(module, 0) + int(elements * self.scheme_bits(name) / 8)
        layers = [costs[layer] for layer in range(self.model.config.layers)]
        return cut_decoder(layers, costs["head"], count)

    @cached_property
    def elements(self) -> dict[str, int]:
        """How many numbers each weight has; a tied head is the embedding once more."""
        weights = self.model.weights
        counts = {name: math.prod(tensor_shape(matrix)) for name, matrix in weights.items()}
        if self.model.config.tied_head:
            counts["lm_head.weight"] = counts["model.embed_tokens.weight"]
        return counts

    @cached_property
    def _tallies(self) -> dict[str | int, _Tally]:
        """What each layer, by number, the embedding, and norm and head take."""
        tallies: dict[str | int, _Tally] = {}
        for name, count in self.elements.items():
            module, device = _module(name), count * self.bits(name) / 8
            host = device * HOST_PER_TABLE_BYTE_AND_GRAPH * self.graphs
            if module != "embedding":
                host = device * HOST_PER_BYTE + count * HOST_PER_WEIGHT_AND_GRAPH * self.graphs
            before = tallies.get(module, _Tally(0, 0, 0))
            tallies[module] = _Tally(
                before.elements + count, before.device + int(device), before.host + int(host)
            )
        return tallies


class _Tally(NamedTuple):
    """Numbers, bytes on the device, bytes for compiling."""

    elements: int
    device: int
    host: int


def _module(name: str) -> str | int:
    if name.startswith("model.layers."):
        return int(name.split(".")[2])
    return "embedding" if name.startswith("model.embed_tokens.") else "head"


@dataclass(frozen=True)
class Choice:
    """Parts, and why they are so many.

    Attributes:
        host: bytes that compiling the largest one takes.
    """

    parts: tuple[DecoderPart, ...]
    why: str
    host: int


def choose_parts(sizes: Sizes, memory_limit: int, at_once: int) -> Choice:
    """Return the fewest parts that fit the device and, when compiled, the memory of this machine.

    Up to twice as many are chosen if then `at_once` with layers can be compiled at the same time:
    larger parts also take longer than in proportion. If the embedding or the head alone takes more
    than there is, the parts are as few as are no larger than it.

    Raises:
        BadInput: a single layer, the embedding or the head is too large for the device.
    """
    ways = [_Way.of(sizes, count) for count in range(1, sizes.model.config.layers + 3)]
    fitting = [way for way in ways if way.device <= HTP_LIMIT]
    if not fitting:
        raise _too_large(
            ways[-1].device, "use a scheme with fewer bits, or a shorter --context-length"
        )
    alone = [way for way in fitting if way.host <= memory_limit]
    if not alone:
        return min(fitting, key=lambda way: (way.host, len(way.parts))).chosen(1, memory_limit)
    fewest = alone[0]
    for way in alone:
        if len(way.parts) <= 2 * len(fewest.parts) and way.host_of_layers * at_once <= memory_limit:
            return way.chosen(at_once, memory_limit)
    return fewest.chosen(1, memory_limit)


def asked_parts(sizes: Sizes, count: int) -> Choice:
    """Return as many parts as are asked for.

    Raises:
        BadInput: there are fewer places to cut, or a part is too large for the device.
    """
    layers = sizes.model.config.layers
    if count > layers + 2:
        raise BadInput(
            f"{layers} layers can't be cut into {count} parts",
            hint=f"use --splits {layers + 2} or less: the embedding, each layer, the head",
        )
    way = _Way.of(sizes, count)
    if way.device > HTP_LIMIT:
        raise _too_large(way.device, "use more --splits, or leave it out")
    return Choice(way.parts, "as asked for", way.host)


def _too_large(device: int, hint: str) -> BadInput:
    return BadInput(f"a part takes {_gb(device)}; a context holds {_gb(HTP_LIMIT)}", hint=hint)


@dataclass(frozen=True)
class _Way:
    """One way to cut a decoder, with its parts' sizes."""

    parts: tuple[DecoderPart, ...]
    found: tuple[PartSize, ...]

    @classmethod
    def of(cls, sizes: Sizes, count: int) -> _Way:
        parts = sizes.cut(count)
        return cls(parts, tuple(map(sizes.part, parts)))

    @property
    def device(self) -> int:
        return max(size.device for size in self.found)

    @property
    def host(self) -> int:
        """Bytes that compiling the largest part takes."""
        return max(size.host for size in self.found)

    @property
    def host_of_layers(self) -> int:
        """The same of those with layers."""
        pairs = zip(self.parts, self.found, strict=True)
        return max(size.host for part, size in pairs if part.last > part.first)

    def chosen(self, jobs: int, memory_limit: int) -> Choice:
        together = ""
        if jobs > 1 and len(self.parts) > 1:
            together = f", {jobs} with layers at once {_gb(jobs * self.host_of_layers)}"
        return Choice(
            self.parts,
            f"the largest part takes {_gb(self.device)} of {_gb(HTP_LIMIT)} on the device, and "
            f"compiling it {_gb(self.host)}{together} of {_gb(memory_limit)} here",
            self.host,
        )


def layer_activations(config: DecoderConfig, ar: int, context_length: int, grouped: bool) -> int:
    """Bytes of working memory outside of VTCM that a layer needs, 16 bits a number: with grouped
    attention all heads' scores, three times over; one branch for each head keeps to VTCM."""
    scores = config.heads * ar * context_length * 2
    return 3 * scores if grouped else 0


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
