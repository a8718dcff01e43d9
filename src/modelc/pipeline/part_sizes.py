"""What each part of a decoder takes on the device, and what compiling it takes here."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

from modelc.decoder.config import DecoderConfig, DecoderModel
from modelc.decoder.parts import DecoderPart, cut_decoder
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


def layer_activations(config: DecoderConfig, ar: int, context_length: int, grouped: bool) -> int:
    """Bytes of working memory outside of VTCM that a layer needs, 16 bits a number: with grouped
    attention all heads' scores, three times over; one branch for each head keeps to VTCM."""
    scores = config.heads * ar * context_length * 2
    return 3 * scores if grouped else 0
