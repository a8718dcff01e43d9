"""Packed matrices as lazy tensors: packed when they are written, one at a time in memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import onnx_ir as ir

from modelc.ir.packing.packing import Packing
from modelc.ir.packing.recentre import REST_BLOCK, pack_rest
from modelc.ir.packing.slabs import stored_shape
from modelc.ir.packing.weight import PackedWeight, unpack
from modelc.ir.stored import StoredMatrix
from modelc.ir.weights import DerivedWeight


@dataclass(frozen=True)
class PackedMatrix:
    """Stored matrices, their rows one below the other, and how they are packed."""

    sources: tuple[StoredMatrix, ...]
    packing: Packing

    @property
    def rows(self) -> int:
        return sum(stored_shape(source)[0] for source in self.sources)

    @property
    def columns(self) -> int:
        return self.sources[0].shape[-1]

    @property
    def blocks(self) -> int:
        """Blocks in a row; the last one may be filled up."""
        return -(-self.columns // self.packing.layout.block_size)

    def codes(self, name: str) -> PackedTensor:
        """uint8 [rows, blocks, block_size * bits / 8]"""
        layout = self.packing.layout
        width = layout.block_size * layout.bits // 8
        return PackedTensor(self, "codes", ir.DataType.UINT8, (self.rows, self.blocks, width), name)

    def code_rows(self, name: str) -> PackedTensor:
        """The same bytes as uint8 [rows, columns * bits / 8]"""
        width = self.columns * self.packing.layout.bits // 8
        return PackedTensor(self, "codes", ir.DataType.UINT8, (self.rows, width), name)

    def scales(self, name: str) -> PackedTensor:
        """float32 [rows, blocks]"""
        return PackedTensor(self, "scales", ir.DataType.FLOAT, (self.rows, self.blocks), name)

    def zero_points(self, name: str) -> PackedTensor:
        """uint8 [rows, ceil(blocks * bits / 8)]"""
        shape = (self.rows, -(-self.blocks * self.packing.layout.bits // 8))
        return PackedTensor(self, "zero_points", ir.DataType.UINT8, shape, name)

    def minima(self, name: str) -> PackedTensor:
        """float32 [rows, blocks, 1]"""
        shape = (self.rows, self.blocks, 1)
        return PackedTensor(self, "minima", ir.DataType.FLOAT, shape, name)

    def minima_columns(self, name: str) -> PackedTensor:
        """The minima as float32 [blocks, rows]"""
        shape = (self.blocks, self.rows)
        return PackedTensor(self, "minima", ir.DataType.FLOAT, shape, name, transposed=True)

    def rest_codes(self, name: str) -> PackedTensor:
        """The minima that recentring left, as uint8 [rows, blocks of blocks, REST_BLOCK]"""
        shape = (self.rows, -(-self.blocks // REST_BLOCK), REST_BLOCK)
        return PackedTensor(self, "rest_codes", ir.DataType.UINT8, shape, name)

    def rest_scales(self, name: str) -> PackedTensor:
        """float32 [rows, blocks of blocks]"""
        shape = (self.rows, -(-self.blocks // REST_BLOCK))
        return PackedTensor(self, "rest_scales", ir.DataType.FLOAT, shape, name)

    def rounded(self) -> str:
        """Return the format or form of codes that are not kept, "" if there are none."""
        return next(filter(None, map(self.packing.rounds, self.sources)), "")

    def relative_error(self) -> float:
        """Return the norm of what packing changed over the norm of the matrix."""
        return _packed(self)[1]


class PackedTensor(DerivedWeight):
    """One part of a packed matrix."""

    def __init__(
        self,
        matrix: PackedMatrix,
        part: str,
        dtype: ir.DataType,
        shape: tuple[int, ...],
        name: str,
        transposed: bool = False,
    ) -> None:
        def make() -> np.ndarray:
            packed = _packed(matrix)[0]
            if part.startswith("rest_"):
                assert packed.minima is not None
                packed = pack_rest(packed.minima)
            array: np.ndarray = getattr(packed, part.removeprefix("rest_"))
            return array.T if transposed else array.reshape(shape)

        how = f"{'transposed ' if transposed else ''}{part} of {matrix.packing.how}"
        super().__init__(matrix.sources, how, make, dtype, shape, name)
        self.matrix = matrix
        self.part = part


@lru_cache(maxsize=1)  # a matrix's parts are written one after the other
def _packed(matrix: PackedMatrix) -> tuple[PackedWeight, float]:
    """Return a packed matrix and its relative error (measured where numbers aren't kept)."""
    _packed.cache_clear()  # not two at a time in memory
    parts: dict[str, np.ndarray] = {}
    changed = norm = 0.0
    first = 0
    for slab, values in (
        slab for source in matrix.sources for slab in matrix.packing.slabs(source)
    ):
        if values is not None:
            now = unpack(slab)[:, : matrix.columns]
            changed += float(np.square(now - values).sum(dtype=np.float64))
            norm += float(np.square(values).sum(dtype=np.float64))
        for part in ("codes", "scales", "zero_points", "minima"):
            array = getattr(slab, part)
            if array is not None:
                if part not in parts:
                    parts[part] = np.empty((matrix.rows, *array.shape[1:]), array.dtype)
                parts[part][first : first + slab.rows] = array
        first += slab.rows
    layout = matrix.packing.layout
    packed = PackedWeight(layout.bits, layout.block_size, **parts)
    assert packed.layout == layout and first == matrix.rows
    return packed, float(np.sqrt(changed / norm)) if norm else 0.0
