"""Initialisers as integer codes; those of stored weights stay lazy."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from modelc.ir.emit import Scope, new_value
from modelc.ir.encodings import Encoding, IntegerType, from_range
from modelc.ir.packing.int8_channel import ChannelCodec, whole_codes, whole_encoding
from modelc.ir.weights import StoredWeight
from modelc.passes.htp.qdq import dequantise, dequantise_channels


def weight_encoding(value: ir.Value, dtype: IntegerType) -> Encoding:
    """Return one encoding for a whole initialiser."""
    tensor = value.const_value
    assert tensor is not None
    if isinstance(tensor, StoredWeight):
        return whole_encoding(tensor.source, dtype)
    numbers = tensor.numpy()
    return from_range(float(numbers.min()), float(numbers.max()), dtype)


def as_whole(scope: Scope, value: ir.Value, encoding: Encoding) -> ir.Value:
    """Return an initialiser as codes of one encoding and back."""
    name, tensor = str(value.name), value.const_value
    assert tensor is not None
    if isinstance(tensor, StoredWeight):
        codes: ir.TensorProtocol = whole_codes(tensor.source, encoding, f"{name}.codes")
    else:
        codes = ir.Tensor(encoding.quantise(tensor.numpy()), name=f"{name}.codes")
    return dequantise(scope, _initialiser(scope, codes), encoding, name)


def as_channels(scope: Scope, value: ir.Value) -> ir.Value:
    """Return a matrix [in, out] as int8 codes with a scale per output and back."""
    name, tensor = str(value.name), value.const_value
    assert isinstance(tensor, StoredWeight) and tensor.source.transposed
    codec = ChannelCodec(tensor.source)
    codes, scales = (_initialiser(scope, lazy) for lazy in codec.tensors(name))
    # Left out, it would mean the same, but HTP's compiler might take the codes for unsigned.
    zeros = scope.constant(f"{name}.zero_point", np.zeros(codec.channels, np.int8))
    return dequantise_channels(scope, codes, scales, zeros, name)


def _initialiser(scope: Scope, tensor: ir.TensorProtocol) -> ir.Value:
    assert tensor.name
    value = new_value(tensor.name, tensor.shape.numpy(), tensor.dtype)
    value.const_value = tensor
    scope.sheet.initializers[tensor.name] = value
    return value
