"""Writing AIMET's encodings files: 1.0.0, and 0.6.1 for tools that know no other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import onnx_ir as ir

from modelc.errors import BadInput, ModelcError, Where
from modelc.files import write_atomic
from modelc.ir.encodings import Encoding
from modelc.quant.aimet.encodings import (
    SECTIONS,
    AimetEncodings,
    Granularity,
    TensorEncoding,
    from_activation,
)

Version = Literal["1.0.0", "0.6.1"]

_KINDS: Final[Mapping[Granularity, str]] = {
    "tensor": "PER_TENSOR",
    "channel": "PER_CHANNEL",
    "block": "PER_BLOCK",
    "lpbq": "LPBQ",
}


def graph_encodings(
    model: ir.Model,
    activations: Mapping[str, Encoding],
    parameters: Mapping[str, TensorEncoding],
) -> AimetEncodings:
    """Return what a file must say of a float graph, under the graph's own names.

    Args:
        activations: of every float input and node output, by the graph's names, with tensors that
            are only moved already sharing one (`passes.htp.value_encodings`).
        parameters: of weights, by the graph's names; those of other graphs don't matter.

    Raises:
        ModelcError: a float tensor of the graph has no encoding.
    """
    graph = model.graph
    values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    names = [str(value.name) for value in values if value.dtype == ir.DataType.FLOAT]
    absent = [name for name in names if name not in activations]
    if absent:
        raise ModelcError(
            f"{len(absent)} tensors have no encoding, {absent[0]} the first of them",
            where=Where(graph=str(graph.name or "")),
        )
    return AimetEncodings(
        {name: from_activation(activations[name]) for name in sorted(names)},
        {name: parameters[name] for name in sorted(parameters) if name in graph.initializers},
    )


def write_encodings(path: Path, encodings: AimetEncodings, version: Version = "1.0.0") -> None:
    """Write a file, sorted by name; the same encodings give the same bytes.

    Raises:
        BadInput: 0.6.1 has no words for a tensor's blocks.
    """
    activations, parameters = encodings.activations, encodings.parameters
    if version == "1.0.0":
        sections = [_list(activations, encodings.floats), _list(parameters, ())]
    else:
        sections = [_dictionary(activations, encodings.floats), _dictionary(parameters, ())]
    lines = [f'"{name}": {text}' for name, text in zip(SECTIONS, sections, strict=True)]
    text = ",\n".join([*lines, f'"version": "{version}"'])
    write_atomic(path, f"{{\n{text}\n}}\n".encode(), durable=False)


def _list(found: Mapping[str, TensorEncoding], floats: Sequence[str]) -> str:
    """1.0.0: a section, one tensor to a line."""
    rows = {name: _line({"name": name, **_vectors(found[name])}) for name in found}
    for name in floats:
        rows[name] = _line({"name": name, "enc_type": "PER_TENSOR", "dtype": "FLOAT", "bw": 16})
    return "[" + ",".join(f"\n{rows[name]}" for name in sorted(rows)) + "\n]"


def _dictionary(found: Mapping[str, TensorEncoding], floats: Sequence[str]) -> str:
    """0.6.1: a section, one tensor to a line."""
    rows = {name: _line(_channels(name, found[name])) for name in found}
    for name in floats:
        rows[name] = _line([{"bitwidth": 16, "dtype": "float"}])
    return "{" + ",".join(f"\n{_line(name)}: {rows[name]}" for name in sorted(rows)) + "\n}"


def _line(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _vectors(found: TensorEncoding) -> dict[str, Any]:
    """1.0.0: an entry without its name."""
    row = {
        "enc_type": _KINDS[found.granularity],
        "dtype": "INT",
        "bw": found.bits,
        "is_sym": found.symmetric,
        "scale": found.scales.tolist(),
        "offset": found.offsets.tolist(),
    }
    if found.block_size:
        row["block_size"] = found.block_size
    if found.block_scales is not None:
        row["compressed_bw"] = found.compressed_bits
        row["per_block_int_scale"] = found.block_scales.tolist()
    return row


def _channels(name: str, found: TensorEncoding) -> list[dict[str, Any]]:
    """0.6.1: an entry per channel, with the range that its codes reach."""
    if found.block_size:
        raise BadInput(
            f"encodings of version 0.6.1 can't say that {name} has blocks",
            hint="write version 1.0.0",
        )
    last = (1 << found.bits) - 1
    return [
        {
            "bitwidth": found.bits,
            "dtype": "int",
            "is_symmetric": str(found.symmetric),
            "max": (last + offset) * scale,
            "min": offset * scale,
            "offset": offset,
            "scale": scale,
        }
        for scale, offset in zip(found.scales.tolist(), found.offsets.tolist(), strict=True)
    ]
