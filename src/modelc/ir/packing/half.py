"""16-bit float matrices as they are stored, so that a file needn't hold them twice as wide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import ml_dtypes
import numpy as np
import onnx_ir as ir

from modelc.ir.stored import StoredMatrix, release
from modelc.ir.weights import DerivedWeight

HALVES: Final[Mapping[str, tuple[ir.DataType, np.dtype]]] = {
    "F16": (ir.DataType.FLOAT16, np.dtype(np.float16)),
    "BF16": (ir.DataType.BFLOAT16, np.dtype(ml_dtypes.bfloat16)),
}


def half_rows(
    sources: Sequence[StoredMatrix], name: str, *, transposed: bool = False
) -> DerivedWeight:
    """Return stored matrices of one 16-bit format, one below the other, as a lazy tensor."""
    dtype, element = HALVES[sources[0].format]

    def make() -> np.ndarray:
        rows = np.concatenate([np.ascontiguousarray(source.blocks()) for source in sources])
        for source in sources:
            release(source)
        halves = rows.view(element)
        return halves.T if transposed else halves

    heights = [
        source.rows[1] - source.rows[0] if source.rows else source.shape[0] for source in sources
    ]
    shape = (sum(heights), sources[0].shape[1])
    how = f"{'transposed ' if transposed else ''}halves"
    return DerivedWeight(sources, how, make, dtype, shape[::-1] if transposed else shape, name)
