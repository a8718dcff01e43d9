"""How every part of a network is quantised: encodings of its values, precisions of its nodes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from modelc.errors import Damaged, Where
from modelc.ir import encodings as table
from modelc.ir.encodings import Encoding

if TYPE_CHECKING:
    import onnx_ir as ir

ActivationType = Literal["uint8", "uint16", "int8", "int16", "float"]
WeightType = Literal["int8", "uint8", "int4", "int16", "float"]

BITS: Final[Mapping[str, int]] = {
    "int4": 4, "uint8": 8, "int8": 8, "uint16": 16, "int16": 16, "float": 32,
}  # fmt: skip


@dataclass(frozen=True)
class Precision:
    """How one node computes.

    Attributes:
        activations: type of what it reads and makes; `float` leaves it as it is.
        weights: type of the matrix or kernel that it multiplies by.
        per_channel: each output channel of a weight has a scale of its own.
        symmetric: activations are encoded around 0.
        signed_products: a MatMul of two varying 16-bit tensors takes its second one as int16
            around 0: HTP has 76 dB of it then, and 41 of two uint16.
    """

    activations: ActivationType
    weights: WeightType = "int8"
    per_channel: bool = True
    symmetric: bool = False
    signed_products: bool = False


@dataclass(frozen=True)
class NetworkEncodings:
    """What the pass `quantise-network` needs to know.

    Attributes:
        values: encodings by `key` of graph inputs, node outputs and constants; a value that has
            none under its own name is float. Weights have scales by channel, and are not here.
        nodes: node name -> precision, of every node that reads or makes floats.
        scales: name of a weight -> float32 [channels], for weights whose scales are chosen
            already; others take those of least error.
    """

    values: Mapping[str, Encoding]
    nodes: Mapping[str, Precision]
    scales: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def key(value: ir.Value, own: str, wanted: str) -> str:
    """Return the name of a value's encoding in a type that a node wants: the value's own name if
    that is its `own` type, else one made of both ("encoder.add.uint16")."""
    return str(value.name) if wanted == own else f"{value.name}.{wanted}"


def is_float(value: ir.Value | None) -> bool:
    """Whether a value is a float32 tensor, and so can be quantised."""
    return value is not None and value.dtype is not None and value.dtype.name == "FLOAT"


def save(encodings: NetworkEncodings, path: Path) -> None:
    """Write a JSON file, sorted."""
    document = {
        "values": {name: asdict(row) for name, row in sorted(encodings.values.items())},
        "nodes": {name: asdict(row) for name, row in sorted(encodings.nodes.items())},
        "scales": {name: list(row) for name, row in sorted(encodings.scales.items())},
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


def load(path: Path) -> NetworkEncodings:
    """Raises Damaged if the file is not what `save` writes."""
    try:
        document = json.loads(path.read_text())
        if not isinstance(document, dict) or document.keys() != {"values", "nodes", "scales"}:
            raise ValueError("no object of values, nodes and scales")
        return NetworkEncodings(
            {name: table.from_row(name, row) for name, row in document["values"].items()},
            {name: _precision(name, row) for name, row in document["nodes"].items()},
            {name: _scales(name, row) for name, row in document["scales"].items()},
        )
    except (ValueError, AttributeError, RecursionError) as error:
        raise Damaged(
            f"not an encodings file of a network: {error}", where=Where(path=str(path))
        ) from error


def _precision(name: str, row: Any) -> Precision:
    flags = ("per_channel", "symmetric", "signed_products")
    if (
        isinstance(row, dict)
        and row.keys() == {"activations", "weights", *flags}
        and row["activations"] in get_args(ActivationType)
        and row["weights"] in get_args(WeightType)
        and all(isinstance(row[flag], bool) for flag in flags)
    ):
        return Precision(**row)
    raise ValueError(f"{name[:80]} has no precision")


def _scales(name: str, row: Any) -> tuple[float, ...]:
    if isinstance(row, list) and all(type(scale) is float and 0 < scale < 1e38 for scale in row):
        return tuple(row)
    raise ValueError(f"{name[:80]} has no scales")
