"""Writing QuantizeLinear and DequantizeLinear, with scale and zero point as initialisers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from modelc.ir.emit import Scope, dims_of, new_value
from modelc.ir.encodings import Encoding


def quantise(scope: Scope, value: ir.Value, encoding: Encoding, name: str) -> ir.Value:
    """Return the codes of a float value; their scale and zero point are named after `name`."""
    codes = new_value(f"{name}.codes", dims_of(value), integer_type(encoding))
    scope.emit_many("QuantizeLinear", [value, *_numbers(scope, encoding, name)], [codes])
    return codes


def dequantise(scope: Scope, codes: ir.Value, encoding: Encoding, name: str) -> ir.Value:
    """Return the float value of codes."""
    back = new_value(f"{name}.dequantised", dims_of(codes))
    scope.emit_many("DequantizeLinear", [codes, *_numbers(scope, encoding, name)], [back])
    return back


def dequantise_channels(
    scope: Scope, codes: ir.Value, scales: ir.Value, zero_points: ir.Value, name: str
) -> ir.Value:
    """Return the float matrix of codes with one scale per column."""
    back = new_value(f"{name}.dequantised", dims_of(codes))
    scope.emit_many("DequantizeLinear", [codes, scales, zero_points], [back], axis=1)
    return back


def dequantise_blocks(
    scope: Scope,
    codes: ir.Value,
    scales: ir.Value,
    zero_points: ir.Value,
    name: str,
    block_size: int,
) -> ir.Value:
    """Return the float matrix of codes with one scale per column and `block_size` rows."""
    back = new_value(f"{name}.dequantised", dims_of(codes))
    inputs = [codes, scales, zero_points]
    scope.emit_many("DequantizeLinear", inputs, [back], axis=0, block_size=block_size)
    return back


def integer_type(encoding: Encoding) -> ir.DataType:
    return ir.DataType[encoding.dtype.upper()]


def _numbers(scope: Scope, encoding: Encoding, name: str) -> tuple[ir.Value, ir.Value]:
    zero_point = np.array(encoding.zero_point, encoding.dtype)
    return (
        scope.constant(f"{name}.quantisation.scale", np.array(encoding.scale, np.float32)),
        scope.constant(f"{name}.quantisation.zero_point", zero_point),
    )
