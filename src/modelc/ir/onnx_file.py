"""ONNX files from strangers: opened within bounds, and held against the data that they refer to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

import onnx
from google.protobuf.message import DecodeError

from modelc.errors import BadInput, Where

if TYPE_CHECKING:
    import onnx_ir as ir

LARGEST_FILE: Final = 1 << 31  # protobuf's own limit


def read_proto(path: Path) -> onnx.ModelProto:
    """Read an ONNX file; its external data is left where it lies.

    Raises:
        BadInput: it can't be read, is none, or has no nodes.
    """
    where = Where(path=str(path))
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise BadInput("too large for an ONNX file, which ends at 2 GB", where=where)
        proto: onnx.ModelProto = onnx.ModelProto.FromString(path.read_bytes())
    except OSError as error:
        raise BadInput(f"the graph can't be read: {error.strerror}", where=where) from error
    except (DecodeError, ValueError) as error:
        raise BadInput("not an ONNX file, or not whole", where=where, hint=_AGAIN) from error
    if not proto.graph.node:
        raise BadInput("not an ONNX file: it has no nodes", where=where, hint=_AGAIN)
    if not all(isinstance(text, str) for text in _texts(proto)):  # protobuf gives bytes then
        raise BadInput("not a sound graph: its names are not UTF-8", where=where, hint=_AGAIN)
    return proto


def read_whole(path: Path) -> ir.Model:
    """Read a graph whose weights lie in files beside it, every one of them in its place.

    Raises:
        BadInput: as `read_proto`, `check_wiring` and `check_data`, or what it holds is no graph.
    """
    import onnx_ir as ir

    proto = read_proto(path)
    check_wiring(proto, path)
    check_data(proto, path)
    try:
        model = ir.serde.deserialize_model(proto)
    except (ir.serde.SerdeError, ValueError, TypeError, KeyError) as error:
        raise BadInput("not a sound graph", where=Where(path=str(path)), hint=_AGAIN) from error
    ir.external_data.set_base_dir(model.graph, path.parent)
    return model


def check_wiring(proto: onnx.ModelProto, path: Path) -> None:
    """Check that every node reads what is made before it, that the outputs are made, and that it
    is one flat graph, whose data are its initialisers.

    Raises:
        BadInput: it isn't so.
    """
    graph = proto.graph
    if proto.functions or graph.sparse_initializer or not all(map(_is_flat, graph.node)):
        raise BadInput(
            "a graph with graphs, functions or data inside of its nodes",
            where=Where(path=str(path)),
            hint="no step makes such graphs",
        )
    made = {"", *(value.name for value in (*graph.input, *graph.initializer))}
    for node in graph.node:
        if strange := set(node.input) - made:
            raise BadInput(
                f"not a sound graph: {node.name} reads {min(strange)}, which nothing makes",
                where=Where(path=str(path)),
                hint=_AGAIN,
            )
        made.update(node.output)
    if strange := {value.name for value in graph.output} - made:
        raise BadInput(
            f"not a sound graph: nothing makes its output {min(strange)}",
            where=Where(path=str(path)),
            hint=_AGAIN,
        )


def _is_flat(node: onnx.NodeProto) -> bool:
    flat = onnx.AttributeProto
    inside = (flat.GRAPH, flat.GRAPHS, flat.TENSORS, flat.SPARSE_TENSOR, flat.SPARSE_TENSORS)
    return not any(a.type in inside or is_outside(a.t) for a in node.attribute)


def is_outside(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor's bytes lie in a file of their own."""
    return tensor.data_location == onnx.TensorProto.EXTERNAL


def check_data(proto: onnx.ModelProto, path: Path) -> None:
    """Hold every weight outside of the file `path` against the file that it names.

    Raises:
        BadInput: that file is missing, too short, or not in the folder of `path`.
    """
    check_places(proto.graph.initializer, path)


def check_places(tensors: Iterable[onnx.TensorProto], path: Path) -> tuple[str, ...]:
    """Hold those of the tensors that lie outside of the file `path` against the files that they
    name, and return the names of these files, sorted.

    Raises:
        BadInput: such a file is missing, too short, or not in the folder of `path`.
    """
    sizes: dict[str, int] = {}
    for tensor in tensors:
        if is_outside(tensor):
            entries = {entry.key: entry.value for entry in tensor.external_data}
            location = entries.get("location", "")
            if location not in sizes:
                sizes[location] = _size(path.parent, location, path)
            _check_place(tensor, entries, sizes[location], path)
    return tuple(sorted(sizes))


def _texts(proto: onnx.ModelProto) -> Iterator[object]:
    graph = proto.graph
    yield proto.producer_name
    yield from (opset.domain for opset in proto.opset_import)
    yield from (value.name for value in (*graph.input, *graph.output, *graph.initializer))
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
    for tensor in graph.initializer:
        yield from (text for entry in tensor.external_data for text in (entry.key, entry.value))


def _size(folder: Path, location: str, path: Path) -> int:
    """Return the bytes of the file of weights at `location` in `folder`."""
    pure, where = PurePosixPath(location), Where(path=str(path))
    outside = pure.is_absolute() or ".." in pure.parts or "\\" in location or "\0" in location
    if outside or not (folder / pure).resolve().is_relative_to(folder.resolve()):
        raise BadInput(f"its weights lie at {location!r}, outside of its folder", where=where)
    if not location or not (folder / pure).is_file():
        raise BadInput(
            f"its weights are not here: there is no file {location!r} beside it",
            where=where,
            hint="keep a graph and its weights in one folder",
        )
    return (folder / pure).stat().st_size


def _check_place(tensor: onnx.TensorProto, entries: dict[str, str], size: int, path: Path) -> None:
    where = Where(path=str(path))
    try:
        offset = int(entries.get("offset") or 0)
        needed = _bytes(tensor)
        length = int(entries.get("length") or needed)
    except ValueError as error:
        raise BadInput(f"{tensor.name} has no sizes", where=where, hint=_AGAIN) from error
    if length != needed or offset < 0:
        raise BadInput(
            f"{tensor.name} takes {needed} bytes, not {length} at {offset}",
            where=where,
            hint=_AGAIN,
        )
    if offset + length > size:
        raise BadInput(
            f"its weights are cut short: {tensor.name} ends at byte {offset + length} of "
            f"{entries['location']}, which has {size}",
            where=where,
            hint=_AGAIN,
        )


def _bytes(tensor: onnx.TensorProto) -> int:
    """Raises ValueError for a type or sizes that a tensor can't have."""
    from onnx_ir import DataType

    bits = DataType(tensor.data_type).bitwidth
    for size in tensor.dims:
        if size < 0:
            raise ValueError("a negative size")
        bits *= size
    return -(-bits // 8)


_AGAIN: Final = "is it whole? what wrote it must write it again"
