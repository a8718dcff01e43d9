"""Matrices as integer codes in lazy tensors: computed when they are written, one at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import ml_dtypes
import numpy as np
import onnx_ir as ir

from modelc.ir.packing.coded_rows import CodedRows
from modelc.ir.packing.coded_slabs import coded_slabs
from modelc.ir.packing.given_scales import GivenScales
from modelc.ir.packing.kinds import IntegerForm
from modelc.ir.packing.slabs import stored_shape
from modelc.ir.stored import StoredMatrix, tensor_shape
from modelc.ir.weights import DerivedWeight


@dataclass(frozen=True)
class IntegerMatrix:
    """A stored matrix, transposed as MatMul reads it: [inputs, outputs].

    Attributes:
        source: the matrix; an output channel is one of its stored rows. Codes that it lies in
            are kept where the form can have them.
        form: a value of `kinds.MATRIX_KINDS`.
        given: its scales, of as many channels; None to search for them.
    """

    source: StoredMatrix
    form: IntegerForm
    given: GivenScales | None = None

    @property
    def channels(self) -> int:
        return tensor_shape(self.source)[1]

    @property
    def blocks(self) -> int:
        """How many scales a channel has."""
        inputs = tensor_shape(self.source)[0]
        return inputs // (self.form.block or inputs)

    def codes(self, name: str) -> DerivedWeight:
        """int4, int8 or int16 [inputs, outputs]"""
        return self._tensor("codes", self.form.dtype, tensor_shape(self.source), name)

    def scales(self, name: str) -> DerivedWeight:
        """float32 [outputs], or of every block [blocks, outputs]"""
        one = not self.form.block or bool(self.form.scale_bits)
        shape = (self.channels,) if one else (self.blocks, self.channels)
        return self._tensor("scales", ir.DataType.FLOAT, shape, name)

    def multiples(self, name: str) -> DerivedWeight:
        """uint8 [blocks, outputs]: what `scales` are to be multiplied by"""
        assert self.form.scale_bits
        shape = (self.blocks, self.channels)
        return self._tensor("multiples", ir.DataType.UINT8, shape, name)

    def _tensor(
        self, part: str, dtype: ir.DataType, shape: tuple[int, ...], name: str
    ) -> DerivedWeight:
        def make() -> np.ndarray:
            array: np.ndarray = getattr(_quantised(self), part).reshape(shape)
            return array.view(ml_dtypes.int4) if dtype == ir.DataType.INT4 else array

        how = f"{part} of {self.form}" + (f" by scales {self.given.digest}" if self.given else "")
        return DerivedWeight([self.source], how, make, dtype, shape, name)


@lru_cache(maxsize=1)  # a matrix's parts are written one after the other
def _quantised(matrix: IntegerMatrix) -> CodedRows:
    """Return a matrix's codes, scales and multiples, all transposed: outputs last."""
    _quantised.cache_clear()  # not two at a time in memory
    parts: dict[str, np.ndarray] = {}
    for first, made in coded_slabs(matrix.source, matrix.form, matrix.given):
        for part in ("codes", "scales", "multiples"):
            array = getattr(made, part)
            if array is not None:
                if part not in parts:
                    parts[part] = np.empty((array.shape[1], matrix.channels), array.dtype)
                parts[part][:, first : first + len(array)] = array.T
    assert stored_shape(matrix.source)[0] == matrix.channels
    return CodedRows(**parts, block=matrix.form.block)
