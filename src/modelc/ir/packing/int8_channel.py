"""Integer weights for HTP: int8 with one scale per output channel, or one encoding for all.

Read from the stored rows a slab at a time, so that a matrix is never whole in memory as float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
import onnx_ir as ir

from modelc.ir.encodings import Encoding, IntegerType, from_range
from modelc.ir.stored import StoredMatrix, tensor_shape
from modelc.ir.weights import DerivedWeight

LIMIT: Final = 127  # codes are symmetric: -128 is not used
SLAB_BYTES: Final = 16 << 20


@dataclass(frozen=True)
class ChannelCodec:
    """A matrix as int8 codes: value = code * scales[channel], a channel being a stored row.

    Attributes:
        source: the matrix; transposed, as MatMul reads it, its channels are the tensor's columns.
    """

    source: StoredMatrix

    @property
    def channels(self) -> int:
        return tensor_shape(replace(self.source, transposed=False))[0]

    @cached_property
    def scales(self) -> np.ndarray:
        """float32 [channels]: the largest magnitude of each channel over 127."""
        peaks = [np.maximum(slab.max(-1), -slab.min(-1)) for _, slab in slabs(self.source)]
        smallest = np.finfo(np.float32).tiny  # a channel of zeros needs a scale as well
        return np.maximum(np.concatenate(peaks) / LIMIT, smallest).astype(np.float32)

    def codes(self) -> np.ndarray:
        """int8 of the tensor's shape."""
        stored = np.empty(tensor_shape(replace(self.source, transposed=False)), np.int8)
        for first, slab in slabs(self.source):
            part = slice(first, first + len(slab))
            ratios = slab / self.scales[part, None]
            stored[part] = np.rint(ratios, out=ratios)
        return stored.T if self.source.transposed else stored

    def tensors(self, name: str) -> tuple[ir.TensorProtocol, ir.TensorProtocol]:
        """Return codes and scales as lazy tensors called `name`.codes and `name`.scale."""
        how = "int8 per channel"
        return (
            DerivedWeight(
                [self.source],
                f"codes of {how}",
                self.codes,
                ir.DataType.INT8,
                tensor_shape(self.source),
                f"{name}.codes",
            ),
            DerivedWeight(
                [self.source],
                f"scales of {how}",
                lambda: self.scales,
                ir.DataType.FLOAT,
                [self.channels],
                f"{name}.scale",
            ),
        )


def whole_encoding(source: StoredMatrix, dtype: IntegerType) -> Encoding:
    """Return one asymmetric encoding for a whole weight."""
    limits = [(float(slab.min()), float(slab.max())) for _, slab in slabs(source)]
    return from_range(min(low for low, _ in limits), max(high for _, high in limits), dtype)


def whole_codes(source: StoredMatrix, encoding: Encoding, name: str) -> DerivedWeight:
    """Return a weight's codes under one encoding as a lazy tensor."""

    def make() -> np.ndarray:
        stored = np.empty(tensor_shape(replace(source, transposed=False)), encoding.dtype)
        for first, slab in slabs(source):
            stored[first : first + len(slab)] = encoding.quantise(slab)
        return stored.T if source.transposed else stored

    return DerivedWeight(
        [source],
        f"codes of {encoding}",
        make,
        ir.DataType[encoding.dtype.upper()],
        tensor_shape(source),
        name,
    )


def slabs(source: StoredMatrix) -> Iterator[tuple[int, np.ndarray]]:
    """Yield a weight's stored rows as float32, some at a time, each with its first row's number;
    a vector comes whole."""
    if len(source.shape) == 1:
        yield 0, source.decode()
        return
    start, stop = source.rows or (0, source.row_count)
    if source.unpermute_heads:  # rows change places over the whole of the matrix
        yield 0, replace(source, transposed=False).decode()
        return
    step = max(1, SLAB_BYTES // (4 * source.shape[-1]))
    for first in range(start, stop, step):
        rows = (first, min(first + step, stop))
        yield first - start, replace(source, rows=rows, transposed=False).decode()
