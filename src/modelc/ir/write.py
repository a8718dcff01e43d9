"""Models on disk for a runtime: ONNX files and their weights in one file beside them.

Weights are computed, written and dropped one after the other, so that memory holds no more than
one of them (and what is computed together with it).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import onnx_ir as ir

from modelc.ir.weights import DerivedWeight, StoredWeight

ALIGNMENT: Final = 64  # a cache line, and the widest vector registers
INLINE: Final = 1024  # bytes; smaller tensors lie in the ONNX file, where shape inference sees them

Written = Callable[[str, ir.TensorProtocol], None]
_Places = dict[Hashable, tuple[int, int]]  # what bytes are made of -> offset, length


def write_model(model: ir.Model, path: Path, written: Written = lambda name, tensor: None) -> None:
    """Write `path` and, beside it, `path`.data; as `write_models`."""
    write_models({path: model}, path.with_name(f"{path.name}.data"), written)


def write_models(
    models: Mapping[Path, ir.Model], data: Path, written: Written = lambda name, tensor: None
) -> None:
    """Write each model to its path and the weights of all to `data`, in the same folder; none of
    the files may exist.

    Tensors that are the same computation of the same stored matrices share their bytes, within a
    model and between models; so do those that are one object.

    Args:
        written: called with each large tensor's name and the tensor just after it was written.
    """
    places: _Places = {}
    with data.open("xb") as stream:
        for path, model in models.items():
            assert path.parent == data.parent, "a model finds its data only beside it"
            copy = model.clone()  # shares the tensors
            _write_weights(copy.graph, stream, data, places, written)
            proto = ir.serde.serialize_model(copy)
            with path.open("xb") as file:
                file.write(proto.SerializeToString(deterministic=True))


def _write_weights(
    graph: ir.Graph, stream: BinaryIO, data: Path, places: _Places, written: Written
) -> None:
    """Write the large initialisers that have no place yet, and let all refer to their places."""
    for name, value in graph.initializers.items():
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
            base_dir=data.parent,
        )


def _identity(tensor: ir.TensorProtocol) -> Hashable:
    """What a tensor's bytes are made of."""
    if isinstance(tensor, DerivedWeight):
        return tensor.how, tensor.sources
    if isinstance(tensor, StoredWeight):
        return tensor.source
    return id(tensor)


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
