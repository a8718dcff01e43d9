"""Graphs on disk: an ONNX file whose stored weights are references into the source's files.

Such a weight is a tensor with external data whose entries are the fields of its `StoredMatrix`
(`location` relative to the source's root, or to the one of the other `roots` that `root` says), so
no weight's bytes are copied. Everything else, small as it is, lies inline.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any, Final

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from modelc.errors import BadInput, Damaged, ModelcError, Where
from modelc.ir.coded import STORED_TYPES, CodedMatrix, StoredArray
from modelc.ir.onnx_file import is_outside
from modelc.ir.packing.kinds import FloatForm, Form, IntegerForm
from modelc.ir.stored import BLOCKS, StoredMatrix, tensor_shape
from modelc.ir.weights import DerivedWeight, StoredWeight

LARGEST_FILE: Final = 1 << 30  # a graph without its weights is far smaller


def save_graph(model: ir.Model, path: Path, *roots: Path) -> None:
    """Write a graph whose stored weights lie in files under `roots`, the source's first.

    Raises:
        ModelcError: a weight lies somewhere else, or is derived from stored ones.
    """
    proto = to_proto(model, lambda tensor: isinstance(tensor, StoredWeight | DerivedWeight))
    for tensor in proto.graph.initializer:
        if is_outside(tensor):
            weight = model.graph.initializers[tensor.name].const_value
            if not isinstance(weight, StoredWeight):
                raise ModelcError(f"{tensor.name} is made of weights, not stored: not to be saved")
            _write_entries(tensor, _entries(weight.source, roots))
    path.write_bytes(proto.SerializeToString(deterministic=True))


def load_graph(path: Path, *roots: Path) -> ir.Model:
    """Read what `save_graph` wrote; `roots` are the same ones, which may have moved since.

    Raises:
        Damaged: the file is not a graph, or refers to what isn't there.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise Damaged("a saved graph of this size can't be", where=Where(path=str(path)))
        proto = onnx.ModelProto.FromString(path.read_bytes())
        if not proto.graph.node:
            raise ValueError("it has no nodes")
        sources = {
            tensor.name: _source(tensor, roots)
            for tensor in proto.graph.initializer
            if is_outside(tensor)
        }
        for tensor in proto.graph.initializer:
            if is_outside(tensor):
                _write_entries(tensor, {"location": tensor.name})  # the others are known only here
        model = ir.serde.deserialize_model(proto)
    except (DecodeError, ValueError, KeyError, TypeError, OSError, BadInput) as error:
        raise Damaged(f"not a saved graph: {error}", where=Where(path=str(path))) from error
    except ir.serde.SerdeError as error:  # its message is the whole node
        raise Damaged("not a saved graph: it is not sound", where=Where(path=str(path))) from error
    for name, source in sources.items():
        model.graph.initializers[name].const_value = StoredWeight(source, name)
    return model


def to_proto(model: ir.Model, outside: Callable[[ir.TensorProtocol], bool]) -> onnx.ModelProto:
    """Return the model as a protobuf; of initialisers that are `outside` no byte is read, they
    are external data without a place."""
    copy = model.clone()  # shares the tensors
    for name, value in copy.graph.initializers.items():
        tensor = value.const_value
        if tensor is not None and outside(tensor):
            value.const_value = ir.ExternalTensor(
                name, None, None, tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=name
            )
    return ir.serde.serialize_model(copy)


def _entries(source: StoredMatrix, roots: Sequence[Path]) -> dict[str, Any]:
    entries = {
        **_place(source.path, roots),
        "offset": source.offset,
        "format": source.format,
        "shape": source.shape,
        "rows": source.rows,
        "unpermute_heads": source.unpermute_heads,
        "transposed": source.transposed,
        "add": source.add,
    }
    if isinstance(source, CodedMatrix):
        form = source.form
        entries["form"] = form and {"kind": type(form).__name__, **asdict(form)}
        entries["parts"] = {
            name: {
                **_place(part.path, roots),
                "offset": part.offset,
                "dtype": part.dtype,
                "shape": part.shape,
            }
            for name, part in source.parts
        }
    return entries


def _place(path: Path, roots: Sequence[Path]) -> dict[str, Any]:
    """Return where a file is: `root` says which root, the source's where it is left out."""
    for index, root in enumerate(roots):
        if path.is_relative_to(root):
            where = {"location": path.relative_to(root).as_posix()}
            return {**where, "root": index} if index else where
    raise ModelcError("a weight lies outside of its source", where=Where(path=str(path)))


def _write_entries(tensor: onnx.TensorProto, entries: Mapping[str, Any]) -> None:
    del tensor.external_data[:]
    for key, value in entries.items():
        text = value if isinstance(value, str) else json.dumps(value)
        tensor.external_data.add(key=key, value=text)


def _source(tensor: onnx.TensorProto, roots: Sequence[Path]) -> StoredMatrix:
    """Raises ValueError, TypeError or KeyError for entries that don't describe a weight."""
    texts = {entry.key: entry.value for entry in tensor.external_data}
    place: dict[str, Any] = {"location": texts.pop("location"), "root": texts.pop("root", "0")}
    path, format = _path(place, roots, tensor.name), texts.pop("format")
    fields = {key: json.loads(value) for key, value in texts.items()}
    shape, rows = fields.pop("shape"), fields.pop("rows")
    counts = [*shape, *(rows or ()), fields["offset"], fields["unpermute_heads"]]
    if not shape or not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError(f"{tensor.name} has sizes that are no sizes: {counts}")
    fields |= {"shape": tuple(shape), "rows": tuple(rows) if rows else None}
    if "parts" in fields:
        parts = dict(fields.pop("parts")).items()
        arrays = tuple((name, _array(row, roots, tensor.name)) for name, row in parts)
        kind = dict(fields.pop("form") or {})
        form = _FORMS[kind.pop("kind")](**kind) if kind else None
        source: StoredMatrix = CodedMatrix(path, format=format, form=form, parts=arrays, **fields)
    elif format in BLOCKS:
        source = StoredMatrix(path, format=format, **fields)
    else:
        raise ValueError(f"{tensor.name} has unknown format {format}")
    _check(source, tensor)
    return source


def _path(place: Mapping[str, Any], roots: Sequence[Path], name: str) -> Path:
    location, root = PurePosixPath(place["location"]), int(place.get("root", 0))
    if location.is_absolute() or ".." in location.parts or "\\" in str(location):
        raise ValueError(f"{name} lies at {location}, outside of the source")
    if not 0 <= root < len(roots):
        raise ValueError(f"{name} lies in folder {root} of {len(roots)}")
    return roots[root] / location


def _array(row: Mapping[str, Any], roots: Sequence[Path], name: str) -> StoredArray:
    counts = [row["offset"], *row["shape"]]
    if row["dtype"] not in STORED_TYPES or not all(type(n) is int and n >= 0 for n in counts):
        raise ValueError(f"{name} has a part that makes no sense: {row}")
    path = _path(row, roots, name)
    array = StoredArray(path, row["offset"], row["dtype"], tuple(row["shape"]))
    if array.offset + array.size > path.stat().st_size:
        raise ValueError(f"{name} is not what {path.name} holds")
    return array


_FORMS: Final[Mapping[str, type[Form]]] = {
    "IntegerForm": IntegerForm,
    "FloatForm": FloatForm,
}


def _check(source: StoredMatrix, tensor: onnx.TensorProto) -> None:
    first, last = source.rows or (0, source.row_count)
    heads, turning = source.unpermute_heads, last - first
    if len(source.shape) == 1:
        turning = source.shape[0]  # a bias: each element is a row of its own
    good = (
        source.offset + source.row_count * source.row_bytes <= source.path.stat().st_size,
        first < last <= source.row_count,
        not heads or turning % (2 * heads) == 0,
        tensor.data_type == onnx.TensorProto.FLOAT,
        tuple(tensor.dims) == tensor_shape(source),
        type(source.transposed) is bool and isinstance(source.add, int | float),
    )
    if not all(good):
        raise ValueError(f"{tensor.name} is not what {source.path.name} holds")
