"""A model on disk for a runtime: model.onnx and its weights in one file beside it.

Weights are computed, written and dropped one after the other, so that memory holds no more than
one of them (and what is computed together with it).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import onnx_ir as ir

from modelc.ir.weights import DerivedWeight, StoredWeight

ALIGNMENT: Final = 64  # a cache line, and the widest vector registers
INLINE: Final = 1024  # bytes; smaller tensors lie in model.onnx, where shape inference sees them

Written = Callable[[str, ir.TensorProtocol], None]


def write_model(model: ir.Model, path: Path, written: Written = lambda name, tensor: None) -> None:
    """Write `path` and, beside it, `path`.data; neither may exist.

    Tensors that are the same computation of the same stored matrices share their bytes.

    Args:
        written: called with each large tensor's name and the tensor just after it was written.
    """
    data = path.with_name(f"{path.name}.data")
    places: dict[Hashable, tuple[int, int]] = {}
    copy = model.clone()  # shares the tensors
    with data.open("xb") as stream:
        for name, value in copy.graph.initializers.items():
            tensor = value.const_value
            if tensor is None or tensor.nbytes < INLINE:
                continue
            key = _identity(tensor)
            if key not in places:
                places[key] = _append(stream, tensor)
                written(name, tensor)
            value.const_value = ir.ExternalTensor(
                data.name,
                *places[key],
                tensor.dtype,
                shape=ir.Shape(tensor.shape.numpy()),
                name=name,
                base_dir=path.parent,
            )
    with path.open("xb") as stream:
        stream.write(ir.serde.serialize_model(copy).SerializeToString(deterministic=True))


def _identity(tensor: ir.TensorProtocol) -> Hashable:
    """What a tensor's bytes are made of."""
    if isinstance(tensor, DerivedWeight):
        return tensor.how, tensor.sources
    if isinstance(tensor, StoredWeight):
        return tensor.source
    return id(tensor)


def _append(stream: BinaryIO, tensor: ir.TensorProtocol) -> tuple[int, int]:
    """Write a tensor's bytes; return their offset and length."""
    offset = -(-stream.tell() // ALIGNMENT) * ALIGNMENT
    stream.write(bytes(offset - stream.tell()))
    array = np.ascontiguousarray(tensor.numpy())
    stream.write(array.reshape(-1).view(np.uint8).data)
    return offset, array.nbytes
