"""What the QNN tools are told of the graph's inputs and outputs: types, sizes, MX formats."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from modelc.errors import BadInput, Where
from modelc.targets.qaic.source import read_header

MODEL: Final = "model"
GRAPHS: Final = (f"{MODEL}_configuration_1", f"{MODEL}_configuration_2")
"""Names of prefill and decode."""

_BOTH_SIZES: Final = frozenset({"input_ids", "position_ids"})
_PLAIN: Final = re.compile(r"[A-Za-z_/][\w./:-]*")


@dataclass(frozen=True)
class Port:
    """An input or output: its NumPy type's name and its sizes, symbols by name."""

    name: str
    dtype: str
    sizes: tuple[int | str, ...]


def read_ports(path: Path) -> tuple[list[Port], list[Port]]:
    """Return the inputs and the outputs of an ONNX file, in its order.

    Raises:
        BadInput: it can't be read, or one has no sizes.
    """
    graph = read_header(path).graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [_port(value, path) for value in graph.input if value.name not in constants]
    return inputs, [_port(value, path) for value in graph.output]


def io_config_text(
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    precisions: Mapping[str, str],
    sizes: Sequence[Mapping[str, int]],
) -> str:
    """Return custom_io_config.yaml.

    Args:
        precisions: of the states, by name; mxint8 is carried as uint8.
        sizes: values of the symbols, of the prefill and of the decode, or of the one graph.

    Raises:
        BadInput: a symbol has no value.
    """
    lines = ["Input Tensor Configuration:"]
    for port in inputs:
        lines += [*_entry(port, precisions), f"    Shape: {_shapes(port, sizes)}"]
    lines.append("Output Tensor Configuration:")
    for port in outputs:
        lines += _entry(port, precisions)
    return "\n".join(lines) + "\n"


def graph_names(count: int) -> list[str]:
    """Return the names that the tools give to one graph, or to two."""
    return [MODEL] if count == 1 else list(GRAPHS)


def data_format_text(ports: Sequence[Port], count: int) -> str:
    """Return qnn_data_format_config.json: the states are in MX format in all `count` graphs."""
    states = [p.name for p in ports if "past_key" in p.name or "past_value" in p.name]
    tensors = [{"tensor_name": s, "dataFormat": "QNN_TENSOR_DATA_FORMAT_MX"} for s in states]
    graphs = [{"graph_name": graph, "tensors": tensors} for graph in graph_names(count)]
    return json.dumps({"graphs": graphs}, indent=4)


def _port(value: Any, path: Path) -> Port:
    from onnx import helper

    where = Where(path=str(path))
    try:
        dtype = str(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
    except KeyError as error:
        raise BadInput(f"{value.name} has no type of a tensor's", where=where) from error
    dims = value.type.tensor_type.shape.dim
    sizes = [d.dim_param if d.HasField("dim_param") else d.dim_value for d in dims]
    return Port(value.name, dtype, tuple(sizes))


def _entry(port: Port, precisions: Mapping[str, str]) -> list[str]:
    precision = precisions.get(port.name, port.dtype)
    dtype = "uint8" if precision == "mxint8" else precision
    name = port.name if _PLAIN.fullmatch(port.name) else json.dumps(port.name)
    return [f"- Name: {name}", "  Desired Model Parameters:", f"    DataType: {dtype}"]


def _shapes(port: Port, sizes: Sequence[Mapping[str, int]]) -> str:
    """Return a port's sizes in each graph, in one if they are the same in both."""
    differ = len(sizes) > 1 and (
        port.name in _BOTH_SIZES
        or any(sizes[0].get(s) != sizes[1].get(s) for s in port.sizes if isinstance(s, str))
    )
    wanted = sizes if differ else sizes[:1]
    return ", ".join(_shape(port, values) for values in wanted)


def _shape(port: Port, values: Mapping[str, int]) -> str:
    missing = [s for s in port.sizes if isinstance(s, str) and s not in values]
    if missing:
        raise BadInput(f"{port.name} has the size {missing[0]!r}, which no option sets")
    numbers = [str(values[s] if isinstance(s, str) else s) for s in port.sizes]
    return f"({', '.join(numbers)})"
