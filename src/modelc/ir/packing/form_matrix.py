"""Matrices as codes of any form in lazy tensors, for graphs that turn them into numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from modelc.ir.packing.coded_rows import CodedRows, dequantise_rows
from modelc.ir.packing.form_packing import measured_slabs, rounded_codes
from modelc.ir.packing.kinds import FloatForm, Form, IntegerForm
from modelc.ir.packing.slabs import stored_shape
from modelc.ir.stored import StoredMatrix
from modelc.ir.weights import DerivedWeight

# What ONNX Runtime turns into float32 on the CPU. FP6 has no type of its own, but each of its
# numbers is one of E4M3; FP4 has one that is not taken, so that its bits lie as 4-bit integers.
_FLOATS: Final[Mapping[str, ir.DataType]] = {
    "e4m3": ir.DataType.FLOAT8E4M3FN,
    "e5m2": ir.DataType.FLOAT8E5M2,
    "e3m2": ir.DataType.FLOAT8E4M3FN,
    "e2m3": ir.DataType.FLOAT8E4M3FN,
    "e2m1": ir.DataType.UINT4,
}


@dataclass(frozen=True)
class FormMatrix:
    """Stored matrices side by side, transposed as MatMul reads them: [inputs, outputs].

    Attributes:
        sources: their rows are output channels; codes of the form that they consist of are kept.
    """

    sources: tuple[StoredMatrix, ...]
    form: Form

    @property
    def rows(self) -> int:
        return sum(stored_shape(source)[0] for source in self.sources)

    @property
    def columns(self) -> int:
        return self.sources[0].shape[-1]

    @property
    def blocks(self) -> int:
        """Scales of a channel."""
        return -(-self.columns // (self.form.block or self.columns))

    @property
    def has_zeros(self) -> bool:
        return isinstance(self.form, IntegerForm) and not self.form.symmetric

    @property
    def dtype(self) -> ir.DataType:
        """Of the codes in the graph."""
        if isinstance(self.form, FloatForm):
            return _FLOATS[self.form.element]
        sign = "INT" if self.form.symmetric else "UINT"
        return ir.DataType[f"{sign}{max(self.form.bits, 4)}"]

    @property
    def elements(self) -> NDArray[np.float32] | None:
        """The number that each code of FP4 stands for; None where the codes' type says it."""
        if not isinstance(self.form, FloatForm) or self.dtype != ir.DataType.UINT4:
            return None
        every = np.arange(1 << self.form.bits, dtype=np.uint8)
        return every.view(self.form.array_type).astype(np.float32)

    def codes(self, name: str) -> FormTensor:
        """[inputs, outputs]"""
        return FormTensor(self, "codes", self.dtype, (self.columns, self.rows), name)

    def scales(self, name: str) -> FormTensor:
        """float32 [blocks, outputs]"""
        return FormTensor(self, "scales", ir.DataType.FLOAT, (self.blocks, self.rows), name)

    def zeros(self, name: str) -> FormTensor:
        """uint8 [blocks, outputs]"""
        return FormTensor(self, "zeros", ir.DataType.UINT8, (self.blocks, self.rows), name)

    def rounded(self) -> str:
        """Return the format or form of codes that are not kept, "" if there are none."""
        return next(filter(None, (rounded_codes(one, self.form) for one in self.sources)), "")

    def relative_error(self) -> float:
        """Return the norm of what was changed of such codes over the norm of the matrix."""
        return _coded(self)[1]


class FormTensor(DerivedWeight):
    """One part of such a matrix."""

    def __init__(
        self,
        matrix: FormMatrix,
        part: str,
        dtype: ir.DataType,
        shape: tuple[int, ...],
        name: str,
    ) -> None:
        def make() -> np.ndarray:
            array: np.ndarray = getattr(_coded(matrix)[0], part)
            if dtype.bitwidth < 8:  # the low bits, whatever they stand for
                return array.view(np.uint8).view(dtype.numpy())
            return array.astype(dtype.numpy(), copy=False)

        super().__init__(matrix.sources, f"{part} of {matrix.form}", make, dtype, shape, name)
        self.matrix = matrix
        self.part = part


@lru_cache(maxsize=1)  # a matrix's parts are written one after the other
def _coded(matrix: FormMatrix) -> tuple[CodedRows, float]:
    """Return codes, scales and zeros, all transposed: outputs last; and what was changed of codes
    that there were, as a part of their norm."""
    _coded.cache_clear()  # not two at a time in memory
    parts: dict[str, NDArray[Any]] = {}
    changed = norm = 0.0
    done = 0
    for source in matrix.sources:
        for coded, values in measured_slabs(source, matrix.form):
            if values is not None:
                changed += float(np.square(dequantise_rows(coded) - values).sum(dtype=np.float64))
                norm += float(np.square(values).sum(dtype=np.float64))
            found = {"codes": coded.codes, "scales": coded.block_scales, "zeros": coded.zeros}
            for part, array in found.items():
                if array is not None:
                    if part not in parts:
                        parts[part] = np.empty((array.shape[1], matrix.rows), array.dtype)
                    parts[part][:, done : done + len(array)] = array.T
            done += len(coded.codes)
    assert done == matrix.rows
    made = CodedRows(**parts, block=matrix.form.block)
    return made, float(np.sqrt(changed / norm)) if norm else 0.0
