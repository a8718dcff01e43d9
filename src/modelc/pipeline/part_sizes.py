"""What each part of a decoder takes on the device, and what compiling it takes here."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from modelc.decoder.config import DecoderConfig, DecoderModel
from modelc.decoder.parts import DecoderPart, cut_decoder
from modelc.errors import BadInput
from modelc.ir.stored import tensor_shape

# A context on the device addresses 4 GB; this much of it can be used.
HTP_LIMIT: Final = 3_500_000_000

# What compiling takes, measured with parts of a 1B model for AR-128 and AR-1 at context 4096: so
# much anyhow, for each weight of a matrix and for each of its bytes on the device; a table, which
# is only looked up, takes several copies.
HOST_BASE: Final = 400_000_000
HOST_PER_WEIGHT: Final = 5.5
HOST_PER_BYTE: Final = 2.6
HOST_PER_TABLE_BYTE: Final = 7.5


@dataclass(frozen=True)
class PartSize:
    """Bytes that one part takes.

    Attributes:
        weights, kv_cache, activations: on the device.
        host: at the peak of compiling it.
    """

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
        kv_per_layer: bytes of one layer's KV cache.
        activations: bytes that one layer needs besides.
    """

    model: DecoderModel
    bits: Callable[[str], float]
    kv_per_layer: int
    activations: int

    def part(self, part: DecoderPart) -> PartSize:
        modules: list[str | int] = [*range(part.first, part.last)]
        modules += ["embedding"] * part.embedding + ["head"] * part.head
        tallies = [self._tallies[module] for module in modules]
        layers = part.last - part.first
        return PartSize(
            weights=sum(device for device, _ in tallies),
            kv_cache=layers * self.kv_per_layer,
            activations=self.activations if layers else 0,
            host=HOST_BASE + sum(host for _, host in tallies),
        )

    def cut(self, count: int) -> tuple[DecoderPart, ...]:
        """Cut the decoder so that the largest part is smallest.

        Raises:
            ValueError: into more parts than it has places to cut.
        """
        number = self.model.config.layers
        layers = [self.part(DecoderPart(layer, layer + 1)).device for layer in range(number)]
        head = self.part(DecoderPart(number, number, head=True)).device
        return cut_decoder(layers, head, count)

    @cached_property
    def elements(self) -> dict[str, int]:
        """How many numbers each weight has; a tied head is the embedding once more."""
        weights = self.model.weights
        counts = {name: math.prod(tensor_shape(matrix)) for name, matrix in weights.items()}
        if self.model.config.tied_head:
            counts["lm_head.weight"] = counts["model.embed_tokens.weight"]
        return counts

    @cached_property
    def _tallies(self) -> dict[str | int, tuple[int, int]]:
        """Bytes on the device and for compiling, of each layer by number, of the embedding and of
        norm and head."""
        tallies: dict[str | int, tuple[int, int]] = {}
        for name, count in self.elements.items():
            module, device = _module(name), count * self.bits(name) / 8
            host = device * HOST_PER_TABLE_BYTE
            if module != "embedding":
                host = count * HOST_PER_WEIGHT + device * HOST_PER_BYTE
            before = tallies.get(module, (0, 0))
            tallies[module] = before[0] + int(device), before[1] + int(host)
        return tallies


def _module(name: str) -> str | int:
    if name.startswith("model.layers."):
        return int(name.split(".")[2])
    return "embedding" if name.startswith("model.embed_tokens.") else "head"


@dataclass(frozen=True)
class Choice:
    """Parts, and why they are so many."""

    parts: tuple[DecoderPart, ...]
    why: str


def choose_parts(sizes: Sizes, memory_limit: int, at_once: int) -> Choice:
    """Return the fewest parts that fit the device, and of which `at_once` with layers can be
    compiled at the same time within the memory of this machine, others alone; if no parts are that
    small, with fewer at once; if the embedding or the head alone takes more, as few as are no
    larger than it.

    Raises:
        BadInput: a single layer, the embedding or the head is too large for the device.
    """
    ways = [_Way.of(sizes, count) for count in range(1, sizes.model.config.layers + 3)]
    fitting = [way for way in ways if way.device <= HTP_LIMIT]
    if not fitting:
        raise BadInput(
            "a single layer, the embedding or the head takes "
            f"{_gb(ways[-1].device)}; a context holds {_gb(HTP_LIMIT)}",
            hint="use a scheme with fewer bits, or a shorter --context-length",
        )
    for jobs in range(at_once, 0, -1):
        for way in fitting:
            if way.host <= memory_limit and way.host_of_layers * jobs <= memory_limit:
                return way.chosen(jobs, memory_limit)
    return min(fitting, key=lambda way: (way.host, len(way.parts))).chosen(1, memory_limit)


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
        )


def layer_activations(config: DecoderConfig, ar: int, context_length: int, grouped: bool) -> int:
    """Bytes of working memory outside of VTCM that a layer needs, 16 bits a number: with grouped
    attention all heads' scores, three times over; one branch for each head keeps to VTCM."""
    scores = config.heads * ar * context_length * 2
    return 3 * scores if grouped else 0


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
