"""Weights under one encoding: tables that are looked up, norms and biases."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from modelc.errors import BadInput
from modelc.ir.encodings import Encoding, IntegerType, from_range
from modelc.ir.packing.slabs import slabs, stored_shape
from modelc.ir.stored import StoredMatrix, tensor_shape
from modelc.ir.weights import DerivedWeight


def whole_encoding(source: StoredMatrix, dtype: IntegerType) -> Encoding:
    """Return one asymmetric encoding for a whole weight.

    Raises:
        BadInput: it holds NaN or infinite values.
    """
    limits = [(float(slab.min()), float(slab.max())) for _, slab in slabs(source)]
    if not np.isfinite(limits).all():
        raise BadInput("the weight holds NaN or infinite values")
    return from_range(min(low for low, _ in limits), max(high for _, high in limits), dtype)


def whole_codes(source: StoredMatrix, encoding: Encoding, name: str) -> DerivedWeight:
    """Return a weight's codes under one encoding as a lazy tensor."""

    def make() -> np.ndarray:
        stored = np.empty(stored_shape(source), encoding.dtype)
        for first, slab in slabs(source):
            stored[first : first + len(slab)] = encode(slab, encoding)
        return stored.T if source.transposed else stored

    return DerivedWeight(
        [source],
        f"codes of {encoding}",
        make,
        ir.DataType[encoding.dtype.upper()],
        tensor_shape(source),
        name,
    )


def encode(values: np.ndarray, encoding: Encoding) -> np.ndarray:
    """`Encoding.quantise` in float32, which has bits enough for codes of 16."""
    limits = np.iinfo(encoding.dtype)
    codes = values / np.float32(encoding.scale)
    np.rint(codes, out=codes)
    codes += np.float32(encoding.zero_point)
    np.clip(codes, np.float32(limits.min), np.float32(limits.max), out=codes)
    return codes.astype(encoding.dtype)
