"""Noise that begins in one matrix and goes on through all that is behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

import numpy as np

from modelc.reference.checkpoint import State

Array = np.ndarray
Table = dict[str, dict[str, float]]
"""Module -> kind -> mean KL divergence in nats per token, or another figure."""

_FIGURES: Final = "figures"


@dataclass
class Figures:
    """What was measured so far.

    Attributes:
        noise: module -> kind -> power at the end of its layer, in relation to the signal's.
        begun: stream -> power of its noise where it began.
        stream_of: module -> its stream.
    """

    noise: Table = field(default_factory=dict)
    begun: dict[str, float] = field(default_factory=dict)
    stream_of: dict[str, str] = field(default_factory=dict)


class Streams:
    """What is carried from part to part: the float model's states, and for each stream what
    differs from them.

    Attributes:
        states: what the next part reads of each sample in the float model.
        streams: name -> what differs from that, for each sample.
    """

    def __init__(self, states: list[State]) -> None:
        self.states = states
        self.streams: dict[str, list[State]] = {}
        self.figures = Figures()

    def begin(
        self, name: str, modules: Sequence[str], plain: Sequence[State], made: Sequence[State]
    ) -> None:
        """Let a stream begin where a part that made `plain` makes something else, because of what
        became of these modules."""
        self.figures.begun[name] = noise_power(plain, made)
        self.figures.stream_of |= dict.fromkeys(modules, name)
        self.streams[name] = [
            {
                tensor: array
                for tensor, array in new.items()
                if not np.array_equal(array, old[tensor])
            }
            for old, new in zip(plain, made, strict=True)
        ]

    def arrays(self) -> dict[str, Array]:
        """Return all but the states, for a `Checkpoint`."""
        told = json.dumps(asdict(self.figures)).encode()
        return {
            _FIGURES: np.frombuffer(told, np.uint8),
            **{
                f"{stream}/{index}/{name}": array
                for stream, rows in self.streams.items()
                for index, row in enumerate(rows)
                for name, array in row.items()
            },
        }

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Raise KeyError or ValueError for what `arrays` doesn't give."""
        figures = Figures(**json.loads(arrays[_FIGURES].tobytes()))
        streams: dict[str, list[State]] = {n: [{} for _ in self.states] for n in figures.begun}
        for key, array in arrays.items():
            if key != _FIGURES:
                stream, index, name = key.split("/", 2)
                streams[stream][int(index)][name] = array
        self.figures, self.streams = figures, streams


def noise_power(plain: Sequence[State], made: Sequence[State]) -> float:
    """Return the power of the noise over the signal's, the mean of all tokens: the norms behind
    scale every token by its own."""
    shares = []
    for old, new in zip(plain, made, strict=True):
        for name, array in old.items():
            if array.dtype == np.float32 and not np.array_equal(array, new[name]):
                lost = np.square(new[name] - array, dtype=np.float64).sum(-1)
                shares.append(lost / np.square(array, dtype=np.float64).sum(-1))
    return float(np.mean([share.mean() for share in shares])) if shares else 0.0
