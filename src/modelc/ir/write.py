"""Models on disk for a runtime: ONNX files and their weights in one file beside them.

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

from modelc.ir.weights import DerivedWeight, StoredWeight

ALIGNMENT: Final = 64  # a cache line, and the widest vector registers
INLINE: Final = 1024  # bytes; smaller tensors lie in the ONNX file, where shape inference sees them

Written = Callable[[str, ir.TensorProtocol], None]


def write_model(model: ir.Model, path: Path, written: Written = lambda name, tensor: None) -> None:
    """Write `path` and, beside it, `path`.data; as `write_models`."""
    write_models({path: model}, path.with_name(f"{path.name}.data"), written)


def write_models(
    models: Mapping[Path, ir.Model], data: Path, written: Written = lambda name, tensor: None
) -> None:
    """Write each model to its path and the large weights of all to `data`, in the same folder;
    none of the files may exist.

    Tensors that are the same computation of the same stored matrices, or have the same numbers,
    are computed and written once for all models.

    Args:
        written: called with each large tensor's name and the tensor just after it was written.
    """
    with data.open("xb") as stream:
        weights = _Weights(stream, data, written)
        for path, model in models.items():
            assert path.parent == data.parent, "a model finds its data only beside it"
            copy = model.clone()  # shares the tensors
            for name, value in copy.graph.initializers.items():
                if value.const_value is not None:
                    value.const_value = weights.written(name, value.const_value)
            proto = ir.serde.serialize_model(copy)
            with path.open("xb") as file:
                file.write(proto.SerializeToString(deterministic=True))


@dataclass(frozen=True)
class _Weights:
    """A file of weights and what is in it, by what the bytes are made of."""

    stream: BinaryIO
    path: Path
    told: Written
    places: dict[Hashable, tuple[int, int]] = field(default_factory=dict)
    small: dict[Hashable, np.ndarray] = field(default_factory=dict)

    def written(self, name: str, tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        """Return the initialiser `name` as a file holds it: a place in this one, or numbers."""
        if tensor.nbytes < INLINE:
            return self._computed(name, tensor)
        key = _identity(tensor)
        if key not in self.places:
            self.places[key] = _append(self.stream, tensor)
            self.told(name, tensor)
        return ir.ExternalTensor(
            self.path.name,
            *self.places[key],
            tensor.dtype,
            shape=ir.Shape(tensor.shape.numpy()),
            name=name,
            base_dir=self.path.parent,
        )

    def _computed(self, name: str, tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        """Lazy tensors are computed in turn: later, what they share with their neighbours would
        have to be computed again."""
        if not isinstance(tensor, ir.LazyTensor):
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
        array = np.ascontiguousarray(tensor.numpy())
        stream.write(array.reshape(-1).view(np.uint8).data)
    return offset, stream.tell() - offset
