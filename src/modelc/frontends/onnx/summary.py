"""What an ONNX file says of itself, before any size is fixed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from modelc.frontends.onnx.dims import OpenSize, open_sizes
from modelc.frontends.onnx.sound import data_files, nodes_of, read_sound
from modelc.frontends.onnx.stored_tensors import element_count


@dataclass(frozen=True)
class Port:
    """An input or an output: open sizes are given by their symbol, "?" where they have none.

    Attributes:
        dtype: as numpy calls it ("float32").
        shape: None where the file doesn't say.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...] | None


@dataclass(frozen=True)
class Summary:
    """What an ONNX file holds.

    Attributes:
        opset: of the standard operators.
        domains: versions of other domains.
        producer: what wrote it, "" if it doesn't say.
        operators: how many nodes of each operator, those of other domains as DOMAIN.OPERATOR;
            in local functions and branches, each is counted once.
        parameters: elements of all initialisers.
        files: it and the files of its weights.
    """

    opset: int
    domains: dict[str, int]
    producer: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    open_sizes: tuple[OpenSize, ...]
    operators: dict[str, int]
    functions: int
    parameters: int
    files: tuple[Path, ...]


def summarise(path: Path) -> Summary:
    """Return what the ONNX file at `path` holds.

    Raises:
        BadInput: it is no sound ONNX file, or its weights aren't beside it.
    """
    proto = read_sound(path)
    imports = {opset.domain: opset.version for opset in proto.opset_import}
    opset = imports.pop("", 0) or imports.pop("ai.onnx", 0)
    stored = {tensor.name for tensor in proto.graph.initializer}
    counts = Counter(_operator(node) for node in nodes_of(proto))
    return Summary(
        opset=opset,
        domains=dict(sorted(imports.items())),
        producer=" ".join(filter(None, (proto.producer_name, proto.producer_version))),
        inputs=tuple(_port(value) for value in proto.graph.input if value.name not in stored),
        outputs=tuple(map(_port, proto.graph.output)),
        open_sizes=open_sizes(proto.graph),
        operators=dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        functions=len(proto.functions),
        parameters=sum(element_count(tensor.dims) for tensor in proto.graph.initializer),
        files=tuple(sorted({path, *data_files(proto, path)})),
    )


def _operator(node: onnx.NodeProto) -> str:
    plain = node.domain in ("", "ai.onnx")
    return node.op_type if plain else f"{node.domain}.{node.op_type}"


def _port(value: onnx.ValueInfoProto) -> Port:
    tensor: Any = value.type.tensor_type
    known = tensor.elem_type in {int(kind) for kind in ir.DataType}
    dtype = ir.DataType(tensor.elem_type) if known else ir.DataType.UNDEFINED
    name = "?" if dtype == ir.DataType.UNDEFINED else str(dtype.numpy().name)
    if not tensor.HasField("shape"):
        return Port(value.name, name, None)
    sizes = tuple(
        s.dim_param or (s.dim_value if s.dim_value > 0 else "?") for s in tensor.shape.dim
    )
    return Port(value.name, name, sizes)
