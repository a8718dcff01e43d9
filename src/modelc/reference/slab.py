"""Memory that ONNX Runtime writes a session's outputs into, again for each inference.

Outputs that it allocates itself are copied, and the system clears their pages anew each time; where
every tensor is an output, both take longer than the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

ALIGNMENT: Final = 64

_TYPES: Final[Mapping[str, type[np.generic]]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(uint8)": np.uint8,
    "tensor(uint16)": np.uint16,
    "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_,
}


@dataclass(frozen=True)
class Place:
    """Where an output lies in a slab; `shape` in elements, `start` in bytes."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int

    @property
    def end(self) -> int:
        return self.start + self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))

    def view(self, slab: np.ndarray) -> np.ndarray:
        """Return the part of a slab, uint8 [bytes], as the tensor."""
        return slab[self.start : self.end].view(self.dtype).reshape(self.shape)


def places_of(outputs: Iterable[Any]) -> tuple[Place, ...] | None:
    """Return a place for each of a session's outputs, one behind the other; None if there is one
    whose size is not known before, or whose type NumPy does not have.

    Args:
        outputs: what `InferenceSession.get_outputs` returns.
    """
    places: list[Place] = []
    for output in outputs:
        dtype = _TYPES.get(output.type)
        if dtype is None or not all(isinstance(size, int) for size in output.shape):
            return None
        start = -(-places[-1].end // ALIGNMENT) * ALIGNMENT if places else 0
        places.append(Place(output.name, np.dtype(dtype), tuple(output.shape), start))
    return tuple(places)


def make_slab(size: int) -> np.ndarray:
    """Return uint8 [size], aligned."""
    memory = np.empty(size + ALIGNMENT, np.uint8)
    return memory[-memory.ctypes.data % ALIGNMENT :][:size]


def run_into(
    session: Any, feed: Mapping[str, np.ndarray], places: Iterable[Place], slab: np.ndarray
) -> dict[str, np.ndarray]:
    """Run a session; return its outputs, which lie in the slab until that is written again."""
    binding = session.io_binding()
    for name, array in feed.items():
        binding.bind_cpu_input(name, np.asarray(array, order="C"))
    views = {place.name: place.view(slab) for place in places}
    for place in places:
        address = views[place.name].ctypes.data
        binding.bind_output(place.name, "cpu", 0, place.dtype.type, place.shape, address)
    session.run_with_iobinding(binding)
    return views
