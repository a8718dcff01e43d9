"""A network's encodings in AIMET's form (version 0.6.1), which Qualcomm's converters take as
`--quantization_overrides`.

Source: https://quic.github.io/aimet-pages/ (quantization encoding specification).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from modelc.ir.encodings import Encoding
from modelc.ir.network_encodings import BITS, NetworkEncodings

CODES = ".codes"
"""Ends the name of a weight's codes in the quantised graph."""


def overrides_text(encodings: NetworkEncodings, coded: ir.Model) -> str:
    """Return the file for the float graph that a quantised one was made of.

    Args:
        coded: the quantised graph, whose weights have the scales.
    """
    inputs = {str(value.name) for value in coded.graph.inputs}
    made = {str(value.name) for node in coded.graph for value in node.outputs}
    activations = {
        name: [_row(row)] for name, row in sorted(encodings.values.items()) if name in inputs | made
    }
    document = {
        "version": "0.6.1",
        "activation_encodings": activations,
        "param_encodings": dict(sorted(_weights(coded).items())),
    }
    return json.dumps(document, indent=1) + "\n"


def _weights(coded: ir.Model) -> Mapping[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for node in coded.graph:
        if node.op_type != "DequantizeLinear":
            continue
        values = [value for value in node.inputs if value is not None]
        if len(values) != 3:
            continue
        codes, scales, zeros = map(ir.convenience.get_const_tensor, values)
        name = str(values[0].name)
        if codes is None or scales is None or zeros is None or not name.endswith(CODES):
            continue
        bits = codes.dtype.bitwidth
        offsets = zeros.numpy().astype(np.int64).reshape(-1)
        signed = 1 << (bits - 1) if codes.dtype.is_signed() else 0
        found[name.removesuffix(CODES)] = [
            _numbers(float(scale), int(-zero - signed), bits, symmetric=bool(signed))
            for scale, zero in zip(scales.numpy().reshape(-1), offsets, strict=True)
        ]
    return found


def _row(encoding: Encoding) -> dict[str, Any]:
    bits = BITS[encoding.dtype]
    signed = 0 if encoding.dtype.startswith("u") else 1 << (bits - 1)
    return _numbers(encoding.scale, -encoding.zero_point - signed, bits, symmetric=False)


def _numbers(scale: float, offset: int, bits: int, *, symmetric: bool) -> dict[str, Any]:
    """`offset` is that of unsigned codes, at most 0."""
    last = (1 << bits) - 1
    return {
        "bitwidth": bits,
        "dtype": "int",
        "is_symmetric": str(symmetric),
        "max": (last + offset) * scale,
        "min": offset * scale,
        "offset": offset,
        "scale": scale,
    }
