"""The ONNX model that loads a network's binary: one EPContext node for each part that HTP runs, and
as they are the nodes that the CPU runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from modelc.errors import Damaged, ModelcError, ToolFailed, Where
from modelc.files import is_safe_name, write_atomic
from modelc.ir.onnx_file import read_proto
from modelc.targets.snapdragon.wrapper import PROVIDER

NODE: Final = "EPContext"
_BINARY: Final = "ep_cache_context"
_GRAPH: Final = "partition_name"
_COMPATIBILITY: Final = "ep_compatibility_info."


@dataclass(frozen=True)
class Port:
    """An input or output: NumPy's name of its type, and its sizes."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class NetworkWrapper:
    """What a wrapper says.

    Attributes:
        binary: file name beside the wrapper.
        graphs: the QNN graphs of the binary that it runs.
        on_cpu: names of the nodes that are not HTP's.
    """

    binary: str
    graphs: tuple[str, ...]
    on_cpu: tuple[str, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def read_network_wrapper(path: Path) -> NetworkWrapper:
    """Raises Damaged if the file is no wrapper of one binary that lies beside it."""
    proto = _load(path)
    contexts = [node for node in proto.graph.node if node.op_type == NODE]
    binaries = {name for node in contexts if (name := _text(node, _BINARY))}
    if len(binaries) != 1 or not is_safe_name(binary := binaries.pop()) or "/" in binary:
        raise _damaged(path)
    graphs = tuple(_text(node, _GRAPH) for node in contexts)
    if not all(graphs):
        raise _damaged(path)
    return NetworkWrapper(
        binary=binary,
        graphs=graphs,
        on_cpu=tuple(node.name for node in proto.graph.node if node.op_type != NODE),
        inputs=ports(proto.graph.input),
        outputs=ports(proto.graph.output),
    )


def adopt(path: Path, binary: str) -> None:
    """Make a wrapper as it was compiled load `binary`, a file name beside it, for any process.

    While it was compiled, the provider went by the graph's name instead of its own.

    Raises:
        Damaged: it is no wrapper.
    """
    proto = _load(path)
    for node in proto.graph.node:
        if node.op_type == NODE:
            for attribute in node.attribute:
                if attribute.name == "source":
                    attribute.s = PROVIDER.encode()
                elif attribute.name == _BINARY and attribute.s:
                    attribute.s = binary.encode()
    for entry in proto.metadata_props:
        if entry.key.startswith(_COMPATIBILITY):
            entry.key = f"{_COMPATIBILITY}{PROVIDER}"
    write_atomic(path, proto.SerializeToString(deterministic=True))


def ports(values: Sequence[Any]) -> tuple[Port, ...]:
    """Return the inputs or outputs of an ONNX graph."""
    from onnx.helper import tensor_dtype_to_np_dtype

    return tuple(
        Port(
            value.name,
            str(tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)),
            tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim),
        )
        for value in values
    )


def check_ports(model: Path, wrapper: Path, where: Where) -> None:
    """Check that a wrapper takes and gives what the model does: names, order, types and sizes.

    Raises:
        ToolFailed: it doesn't.
    """
    graph, made = read_proto(model).graph, read_network_wrapper(wrapper)
    stored = {tensor.name for tensor in graph.initializer}
    wanted = (
        ports([value for value in graph.input if value.name not in stored]),
        ports(graph.output),
    )
    if (made.inputs, made.outputs) != wanted:
        raise ToolFailed(
            f"the compiled network takes and gives {(made.inputs, made.outputs)}, not {wanted}",
            where=where,
        )


def _load(path: Path) -> Any:
    try:
        proto = read_proto(path)
    except ModelcError as error:
        raise _damaged(path) from error
    if not any(node.op_type == NODE for node in proto.graph.node):
        raise _damaged(path)
    return proto


def _text(node: Any, name: str) -> str:
    found = [attribute.s for attribute in node.attribute if attribute.name == name]
    return str(found[0].decode(errors="replace")) if found else ""


def _damaged(path: Path) -> Damaged:
    return Damaged(
        "not the wrapper of a compiled network",
        where=Where(path=str(path)),
        hint="compile it again",
    )
