"""Wrappers: ONNX models of one EPContext node, by which ONNX Runtime loads a context binary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from modelc.errors import Damaged, Where
from modelc.files import is_safe_name, write_atomic

# A wrapper's "source" must be this for the provider to take its binary.
PROVIDER: Final = "QNNExecutionProvider"
_BINARY: Final = "ep_cache_context"
_GRAPH: Final = "partition_name"
_COMPATIBILITY: Final = "ep_compatibility_info."

Ports = Mapping[str, tuple[str, tuple[int, ...]]]
"""Type (NumPy's name) and shape by tensor."""


@dataclass(frozen=True)
class Wrapper:
    """What a wrapper says.

    Attributes:
        binary: file name beside the wrapper.
        graph: the QNN graph of the binary that it runs.
    """

    binary: str
    graph: str
    inputs: Ports
    outputs: Ports


def read_wrapper(path: Path) -> Wrapper:
    """Raises Damaged if the file is no wrapper of a binary that lies beside it."""
    model, attributes = _load(path)
    return Wrapper(
        binary=attributes[_BINARY].s.decode(),
        graph=attributes[_GRAPH].s.decode(errors="replace"),
        inputs=_ports(model.graph.input),
        outputs=_ports(model.graph.output),
    )


def binary_of(path: Path) -> Path:
    """Return the binary that a wrapper loads. Raises Damaged as `read_wrapper` does."""
    return path.with_name(read_wrapper(path).binary)


def retarget(path: Path, binary: str) -> None:
    """Make a wrapper as it was compiled load `binary`, a file name beside it, for any process.

    While it was compiled, the provider went by the graph's name instead of its own.

    Raises:
        Damaged: it is no wrapper.
    """
    model, attributes = _load(path)
    attributes["source"].s = PROVIDER.encode()
    attributes[_BINARY].s = binary.encode()
    for entry in model.metadata_props:
        if entry.key.startswith(_COMPATIBILITY):
            entry.key = f"{_COMPATIBILITY}{PROVIDER}"
    write_atomic(path, model.SerializeToString(deterministic=True))


def _load(path: Path) -> tuple[Any, dict[str, Any]]:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path), load_external_data=False)
        [node] = model.graph.node
        attributes = {attribute.name: attribute for attribute in node.attribute}
        binary = attributes[_BINARY].s.decode()
        whole = is_safe_name(binary) and {_GRAPH, "source"} <= attributes.keys()
    except (OSError, DecodeError, ValueError, KeyError):
        whole = False
    if not whole:
        raise Damaged(
            "not the wrapper of a context binary",
            where=Where(path=str(path)),
            hint="compile it again",
        )
    return model, attributes


def _ports(values: Any) -> Ports:
    from onnx.helper import tensor_dtype_to_np_dtype

    return {
        value.name: (
            tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
            tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim),
        )
        for value in values
    }
