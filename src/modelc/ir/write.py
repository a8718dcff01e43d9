"""Models on disk for a runtime: ONNX files and their weights in one file beside them, or in several
where a loader wants small ones.

Weights are computed, written and dropped one after the other, so that memory holds no more than
one of them (and what is computed together with it).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import onnx_ir as ir

from modelc.ir.stored import release
from modelc.ir.weights import DerivedWeight, StoredWeight

ALIGNMENT: Final = 64  # a cache line, and the widest vector registers
INLINE: Final = 1024  # bytes; smaller tensors lie in the ONNX file, where shape inference sees them
PIECE: Final = 64 << 20  # bytes that are written at once
STRIPE: Final = 128  # columns that are turned at once

Written = Callable[[str, ir.TensorProtocol], None]


def write_model(
    model: ir.Model,
    path: Path,
    written: Written = lambda name, tensor: None,
    chunk_bytes: int | None = None,
) -> None:
    """Write `path` and, beside it, `path`.data; as `write_models`."""
    write_models({path: model}, path.with_name(f"{path.name}.data"), written, chunk_bytes)


def write_models(
    models: Mapping[Path, ir.Model],
    data: Path,
    written: Written = lambda name, tensor: None,
    chunk_bytes: int | None = None,
) -> None:
    """Write each model to its path and the large weights of all to `data`, in the same folder;
    none of the files may exist.

    Tensors that are the same computation of the same stored matrices, or have the same numbers,
    are computed and written once for all models.

    Args:
        written: called with each large tensor's name and the tensor just after it was written.
        chunk_bytes: after how many the weights go on in another file, `data` with a number at the
            end of its stem; only a larger tensor makes a larger file.
    """
    with _Files(data, chunk_bytes) as files:
        weights = _Weights(files, written)
        for path, model in models.items():
            assert path.parent == data.parent, "a model finds its data only beside it"
            copy = model.clone()  # shares the tensors
            for name, value in copy.graph.initializers.items():
                if value.const_value is not None:
                    value.const_value = weights.written(name, value.const_value)
            proto = ir.serde.serialize_model(copy)
            with path.open("xb") as file:
                file.write(proto.SerializeToString(deterministic=True))


class _Files:
    """Files that bytes are appended to, one after the other."""

    def __init__(self, first: Path, limit: int | None) -> None:
        self._first = first
        self._limit = limit
        self._count = 0

    def __enter__(self) -> _Files:
        self._path, self._stream = self._first, self._first.open("xb")
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def append(self, tensor: ir.TensorProtocol) -> tuple[Path, int, int]:
        """Write a tensor's bytes; return their file, offset and length."""
        end = self._stream.tell()
        if self._limit is not None and end and end + tensor.nbytes > self._limit:
            self._stream.close()
            self._count += 1
            name = f"{self._first.stem}_{self._count}{self._first.suffix}"
            self._path = self._first.with_name(name)
            self._stream = self._path.open("xb")
        return self._path, *_append(self._stream, tensor)


@dataclass(frozen=True)
class _Weights:
    """Files of weights and what is in them, by what the bytes are made of."""

    files: _Files
    told: Written
    places: dict[Hashable, tuple[Path, int, int]] = field(default_factory=dict)
    small: dict[Hashable, np.ndarray] = field(default_factory=dict)

    def written(self, name: str, tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        """Return the initialiser `name` as a file holds it: a place in this one, or numbers."""
        if tensor.nbytes < INLINE:
            return self._computed(name, tensor)
        if type(tensor) is ir.LazyTensor:  # unlike what is stored, known only by its numbers
            # Computed once, and dropped when this returns.
            tensor = ir.Tensor(tensor.numpy(), tensor.dtype, shape=tensor.shape, name=name)
        key = _identity(tensor)
        if key not in self.places:
            self.places[key] = self.files.append(tensor)
            self.told(name, tensor)
        path, offset, length = self.places[key]
        return ir.ExternalTensor(
            path.name,
            offset,
            length,
            tensor.dtype,
            shape=ir.Shape(tensor.shape.numpy()),
            name=name,
            base_dir=path.parent,
        )

    def _computed(self, name: str, tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        """Lazy tensors are computed in turn: later, what they share with their neighbours would
        have to be computed again. What lies in another file would not be found from here."""
        if not isinstance(tensor, (ir.LazyTensor, ir.ExternalTensor)):
            return tensor
        key = _identity(tensor)
        if key not in self.small:
            self.small[key] = tensor.numpy()
        numbers = self.small[key].reshape(tensor.shape.numpy())
        return ir.Tensor(numbers, tensor.dtype, name=name)


def _identity(tensor: ir.TensorProtocol) -> Hashable:
    """What a tensor's bytes are made of."""
    if isinstance(tensor, DerivedWeight):
        return tensor.how, tensor.sources
    if isinstance(tensor, StoredWeight):
        return tensor.source
    return hashlib.sha256(tensor.tobytes()).digest()


def _append(stream: BinaryIO, tensor: ir.TensorProtocol) -> tuple[int, int]:
    """Write a tensor's bytes, two of 4 bits in one; return their offset and length."""
    offset = -(-stream.tell() // ALIGNMENT) * ALIGNMENT
    stream.write(bytes(offset - stream.tell()))
    if tensor.dtype.bitwidth < 8:
        stream.write(tensor.tobytes())
    else:
        # A transposed matrix is turned in pieces: there is never a second one of its size.
        array = tensor.source.decode() if isinstance(tensor, StoredWeight) else tensor.numpy()
        array = array if array.ndim > 1 else array.reshape(1, -1)
        rows = max(1, PIECE // max(1, array[:1].nbytes))
        for first in range(0, len(array), rows):
            piece = _in_order(array[first : first + rows])
            stream.write(piece.reshape(-1).view(np.uint8).data)
    if isinstance(tensor, StoredWeight):
        release(tensor.source)
    return offset, stream.tell() - offset


def _in_order(array: np.ndarray) -> np.ndarray:
    """Return an array whose rows lie one after the other; a transposed one is turned in stripes
    that stay in the cache, which is twice as fast or more."""
    if array.flags.c_contiguous or array.ndim != 2:
        return np.ascontiguousarray(array)
    turned = np.empty(array.shape, array.dtype)
    for first in range(0, array.shape[1], STRIPE):
        turned[:, first : first + STRIPE] = array[:, first : first + STRIPE]
    return turned
