"""How many parts a decoder is compiled in, and why."""

from __future__ import annotations

from dataclasses import dataclass

from modelc.decoder.parts import DecoderPart
from modelc.errors import BadInput
from modelc.pipeline.part_sizes import HTP_LIMIT, PartSize, Sizes


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


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
