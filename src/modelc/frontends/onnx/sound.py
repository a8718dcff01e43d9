"""Networks from strangers: read within bounds, and held against what an ONNX file has to be.

What is refused here never gets to code that trusts names, sizes or places. Graphs may lie inside of
nodes and functions, as far as protobuf nests them (100 levels).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import onnx
import onnx_ir as ir
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from modelc.errors import BadInput, Where
from modelc.frontends.onnx.stored_tensors import check_contents
from modelc.ir.onnx_file import check_places, read_proto

AGAIN: Final = "is it whole? what exported it must export it again"
OLDEST: Final = 7
"""The oldest opset: before it, broadcasting meant something else, and ONNX Runtime runs none."""


def read_sound(path: Path) -> onnx.ModelProto:
    """Read an ONNX file and check all of it but what the operators mean.

    Raises:
        BadInput: it isn't one, is damaged, or its weights are not beside it.
    """
    proto = read_proto(path)
    where = Where(path=str(path))
    for text in _texts(proto):
        if not isinstance(text, str):  # protobuf gives bytes for what is no UTF-8
            raise BadInput("not a sound graph: a text in it is not UTF-8", where=where, hint=AGAIN)
    _check_opsets(proto, where)
    _check_inputs(proto.graph, where)
    _check_graph(proto.graph, frozenset(), where)
    for function in proto.functions:
        _check_function(function, where)
    for tensor in tensors_of(proto):
        check_contents(tensor, where)
    data_files(proto, path)
    return proto


def data_files(proto: onnx.ModelProto, path: Path) -> tuple[Path, ...]:
    """Return the files beside `path` that hold weights, sorted.

    Raises:
        BadInput: one is missing, too short, or not in the folder of `path`.
    """
    return tuple(path.parent / location for location in check_places(tensors_of(proto), path))


def tensors_of(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor: initialisers and attributes, in graphs inside of nodes and functions as
    well."""
    yield from proto.graph.initializer
    for node in nodes_of(proto):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for graph in _graphs(attribute):
                yield from graph.initializer


def nodes_of(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield every node, in graphs inside of nodes and functions as well."""
    waiting: list[Iterable[onnx.NodeProto]] = [proto.graph.node]
    waiting.extend(function.node for function in proto.functions)
    while waiting:
        for node in waiting.pop():
            yield node
            for attribute in node.attribute:
                waiting.extend(graph.node for graph in _graphs(attribute))


def _graphs(attribute: onnx.AttributeProto) -> Iterator[onnx.GraphProto]:
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def _texts(message: Message) -> Iterator[object]:
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_STRING:
            yield from [value] if isinstance(value, str | bytes) else value
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            inner: Any = [value] if isinstance(value, Message) else value
            for each in inner:
                yield from _texts(each)


def _check_opsets(proto: onnx.ModelProto, where: Where) -> None:
    newest = onnx.defs.onnx_opset_version()
    imports = [*proto.opset_import, *(o for f in proto.functions for o in f.opset_import)]
    versions = [opset.version for opset in imports if opset.domain in ("", "ai.onnx")]
    plain = any(node.domain in ("", "ai.onnx") for node in nodes_of(proto))
    if plain and not any(opset.domain in ("", "ai.onnx") for opset in proto.opset_import):
        raise BadInput("it doesn't say which opset it is written in", where=where, hint=AGAIN)
    if old := [version for version in versions if version < OLDEST]:
        raise BadInput(
            f"opset {min(old)} is too old: {OLDEST} is the oldest that is read",
            where=where,
            hint=f"export it again with opset {OLDEST} or newer, 17 or newer if you can",
        )
    if new := [version for version in versions if version > newest]:
        raise BadInput(
            f"opset {max(new)} is newer than {newest}, the newest that this onnx knows",
            where=where,
            hint="export it with opset 23, or install a newer onnx",
        )


def _check_inputs(graph: onnx.GraphProto, where: Where) -> None:
    stored = {tensor.name for tensor in graph.initializer}
    for value in graph.input:
        kind = value.type
        if value.name in stored:
            continue
        if not kind.HasField("tensor_type") or kind.tensor_type.elem_type not in _TYPES:
            raise BadInput(
                f"input {value.name} is no tensor of a known type",
                where=where,
                hint="sequences, maps and optional inputs are not supported: make them tensors",
            )
        if not kind.tensor_type.HasField("shape"):
            raise BadInput(
                f"input {value.name} has no shape, not even how many axes it has",
                where=where,
                hint="export it again with shapes of its inputs",
            )


def _check_graph(graph: onnx.GraphProto, outer: frozenset[str], where: Where) -> None:
    if graph.sparse_initializer:
        raise BadInput(
            "sparse initialisers are not supported",
            where=where,
            hint="export it again with dense weights",
        )
    inputs = [value.name for value in graph.input]
    stored = [tensor.name for tensor in graph.initializer]
    _check_unique(inputs, "inputs", where)
    _check_unique(stored, "initialisers", where)
    _check_unique([value.name for value in graph.output], "outputs", where)
    _check_nodes(graph.node, {*inputs, *stored}, outer, where)
    made = {*inputs, *stored, *(name for node in graph.node for name in node.output)}
    for value in graph.output:
        if not value.name or value.name not in made:
            raise _unsound(f"nothing makes its output {value.name!r}", where)


def _check_function(function: onnx.FunctionProto, where: Where) -> None:
    _check_unique(function.input, f"inputs of function {function.name}", where)
    _check_nodes(function.node, set(function.input), frozenset(), where)
    made = {*function.input, *(name for node in function.node for name in node.output)}
    if strange := sorted(set(function.output) - made):
        raise _unsound(f"nothing makes output {strange[0]!r} of function {function.name}", where)


def _check_nodes(
    nodes: Iterable[onnx.NodeProto], given: set[str], outer: frozenset[str], where: Where
) -> None:
    """Nodes needn't be in order: sorting them finds out if they can be."""
    nodes = list(nodes)
    made = set(given)
    for node in nodes:
        for name in filter(None, node.output):
            if name in made:
                raise _unsound(f"two things in it are called {name!r}", where)
            made.add(name)
    visible = frozenset(made | outer)
    for node in nodes:
        if strange := sorted(set(filter(None, node.input)) - visible):
            raise _unsound(f"{_called(node)} reads {strange[0]!r}, which nothing makes", where)
        for attribute in node.attribute:
            if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                raise BadInput(
                    f"{_called(node)} holds a sparse tensor, which is not supported",
                    where=where,
                    hint="export it again with dense weights",
                )
            for graph in _graphs(attribute):
                _check_graph(graph, visible, where)


def _check_unique(names: Iterable[str], what: str, where: Where) -> None:
    seen: set[str] = set()
    for name in names:
        if not name:
            raise _unsound(f"one of its {what} has no name", where)
        if name in seen:
            raise _unsound(f"two of its {what} are called {name!r}", where)
        seen.add(name)


def _called(node: onnx.NodeProto) -> str:
    return f"{node.op_type} {node.name!r}" if node.name else node.op_type


def _unsound(what: str, where: Where) -> BadInput:
    return BadInput(f"not a sound graph: {what}", where=where, hint=AGAIN)


_TYPES: Final = frozenset(int(kind) for kind in ir.DataType if kind != ir.DataType.UNDEFINED)
