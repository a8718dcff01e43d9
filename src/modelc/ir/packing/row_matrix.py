"""Matrices in rows of output channels, as GPU kernels read them: floats, or codes beside their
scales."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from modelc.errors import BadInput, Where
from modelc.ir.packing.coded_rows import CodedRows, dequantise_rows
from modelc.ir.packing.form_packing import measured_slabs, rounded_codes
from modelc.ir.packing.half import HALVES
from modelc.ir.packing.kinds import FloatForm, Form, IntegerForm
from modelc.ir.packing.slabs import slabs, stored_shape
from modelc.ir.stored import MadeMatrix, StoredMatrix, release
from modelc.ir.weights import DerivedWeight

_MIDDLE: Final = 8  # of 4-bit codes: what 0 is stored as, where there are no zeros
_FLOATS: Final[Mapping[ir.DataType, Any]] = {
    ir.DataType.FLOAT16: np.float16,
    ir.DataType.BFLOAT16: ml_dtypes.bfloat16,
    ir.DataType.FLOAT: np.float32,
}


@dataclass(frozen=True)
class RowMatrix:
    """Stored matrices, their rows one below the other.

    Attributes:
        sources: [outputs, inputs] each; codes of the form that they consist of are kept.
        form: 4-bit integers in blocks, or E4M3 per channel, per tensor or in blocks; None: floats.
        columns: first and last of the inputs that are taken, whole blocks; None: all.
    """

    sources: tuple[StoredMatrix, ...]
    form: Form | None = None
    columns: tuple[int, int] | None = None

    @property
    def height(self) -> int:
        return sum(stored_shape(source)[0] for source in self.sources)

    @property
    def width(self) -> int:
        first, last = self.columns or (0, self.sources[0].shape[-1])
        return last - first

    @property
    def has_zeros(self) -> bool:
        return isinstance(self.form, IntegerForm) and not self.form.symmetric

    def floats(self, dtype: ir.DataType, name: str) -> RowTensor:
        """[height, width]"""
        return RowTensor(self, "floats", dtype, (self.height, self.width), name)

    def codes(self, name: str) -> RowTensor:
        """E4M3 [height, width]; or uint8 [height, width / 2]: in each block the byte i has code i
        in its low and code i + block / 2 in its high bits."""
        if isinstance(self.form, FloatForm):
            dtype = ir.DataType.FLOAT8E4M3FN
            return RowTensor(self, "codes", dtype, (self.height, self.width), name)
        return RowTensor(self, "codes", ir.DataType.UINT8, (self.height, self.width // 2), name)

    def scales(self, name: str) -> RowTensor:
        """float16 [height, blocks] of integers; of floats float32 [height] or, where they are in
        blocks, [blocks of rows, blocks]."""
        if isinstance(self.form, IntegerForm):
            shape: tuple[int, ...] = (self.height, self.width // self.form.block)
            return RowTensor(self, "scales", ir.DataType.FLOAT16, shape, name)
        assert self.form is not None
        shape = (self.height,)
        if block := self.form.block:
            rows = (-(-stored_shape(one)[0] // self.form.block_rows) for one in self.sources)
            shape = (sum(rows), -(-self.width // block))
        return RowTensor(self, "scales", ir.DataType.FLOAT, shape, name)

    def zeros(self, name: str) -> RowTensor:
        """uint8 [height, blocks]"""
        assert isinstance(self.form, IntegerForm)
        shape = (self.height, self.width // self.form.block)
        return RowTensor(self, "zeros", ir.DataType.UINT8, shape, name)

    def rounded(self) -> str:
        """Return the format or form of codes that are not kept, "" if there are none."""
        if self.form is None:
            return ""
        others = (one for one in self.sources if not _is_same(one, self.form))
        return next(filter(None, (rounded_codes(one, self.form) for one in others)), "")

    def relative_error(self) -> float:
        """Return the norm of what was changed of such codes over the norm of the matrix."""
        return _coded(self)[1]


def check_form(form: Form | None, columns: int, module: str) -> None:
    """Refuse a kind of weights that GPU kernels don't read.

    Raises:
        BadInput: names the module, and the kinds that there are.
    """
    hint = "kinds of CUDA are w4_b32, w4_b64, w4_b128, u4_b32, u4_b64, u4_b128, e4m3, "
    hint += "e4m3_channel, e4m3_b128 and float"
    if isinstance(form, FloatForm):
        if form.element != "e4m3" or form.power_scales:
            raise BadInput(f"no kernel reads {form}", where=Where(module=module), hint=hint)
        return
    if isinstance(form, IntegerForm):
        if form.bits != 4 or form.scale_bits or form.block not in (32, 64, 128):
            raise BadInput(f"no kernel reads {form}", where=Where(module=module), hint=hint)
        if columns % form.block:
            raise BadInput(
                f"{columns} inputs are no whole number of blocks of {form.block}",
                where=Where(module=module),
                hint=f'give it another kind, such as "{module}" = "float"',
            )


class RowTensor(DerivedWeight):
    """One part of such a matrix."""

    def __init__(
        self,
        matrix: RowMatrix,
        part: str,
        dtype: ir.DataType,
        shape: tuple[int, ...],
        name: str,
    ) -> None:
        def make() -> np.ndarray:
            if part == "floats":
                return _float_rows(matrix, dtype)
            array: np.ndarray = _coded(matrix)[0][part]
            return array.reshape(shape)

        form = "floats" if matrix.form is None else str(matrix.form)
        how = f"{part} of rows of {form}"
        if matrix.columns:
            how += f", inputs {matrix.columns[0]} to {matrix.columns[1]}"
        super().__init__(matrix.sources, how, make, dtype, shape, name)
        self.matrix = matrix
        self.part = part


def _float_rows(matrix: RowMatrix, dtype: ir.DataType) -> np.ndarray:
    made = np.empty((matrix.height, matrix.width), _FLOATS[dtype])
    inside = slice(*matrix.columns) if matrix.columns else slice(None)
    done = 0
    for source in matrix.sources:
        as_it_is = HALVES.get(source.format) if not isinstance(source, MadeMatrix) else None
        if as_it_is is not None and as_it_is[0] == dtype and not source.add:
            rows = np.ascontiguousarray(source.blocks()).view(as_it_is[1])
            made[done : done + len(rows)] = rows[:, inside]
            done += len(rows)
            release(source)
            continue
        for _, slab in slabs(source, 1):
            made[done : done + len(slab)] = slab[:, inside]
            done += len(slab)
    assert done == matrix.height
    return made


@lru_cache(maxsize=1)  # a matrix's parts are written one after the other
def _coded(matrix: RowMatrix) -> tuple[dict[str, np.ndarray], float]:
    """Return the parts, and what was changed of codes that there were as a part of their norm."""
    _coded.cache_clear()  # not two at a time in memory
    assert matrix.form is not None
    pieces: dict[str, list[np.ndarray]] = {}
    changed = norm = 0.0
    for source in matrix.sources:
        if _is_same(source, matrix.form):
            for part, array in _blocks_as_they_are(source, matrix).items():
                pieces.setdefault(part, []).append(array)
            continue
        scales = []
        for coded, values in measured_slabs(source, matrix.form):
            if values is not None:
                changed += float(np.square(dequantise_rows(coded) - values).sum(dtype=np.float64))
                norm += float(np.square(values).sum(dtype=np.float64))
            parts = _parts(coded, matrix)
            scales.append(parts.pop("scales"))
            for part, array in parts.items():
                pieces.setdefault(part, []).append(array)
        # Blocks of rows begin anew with each matrix; what they share is repeated in each row.
        each = np.concatenate(scales)[:: matrix.form.block_rows or 1]
        pieces.setdefault("scales", []).append(each)
    parts = {part: np.concatenate(arrays) for part, arrays in pieces.items()}
    return parts, float(np.sqrt(changed / norm)) if norm else 0.0


def _is_same(source: StoredMatrix, form: Form | None) -> bool:
    """Whether a GGUF's blocks are the form's already: Q4_0 has a float16 scale before 16 bytes that
    hold codes in the same order."""
    same = isinstance(form, IntegerForm) and form.bits == 4 and form.symmetric and form.block == 32
    return same and source.format == "Q4_0" and not source.add


def _blocks_as_they_are(source: StoredMatrix, matrix: RowMatrix) -> dict[str, np.ndarray]:
    raw = replace(source, transposed=False).blocks()
    blocks = raw.reshape(len(raw), -1, 2 + 16)
    if matrix.columns:
        blocks = blocks[:, matrix.columns[0] // 32 : matrix.columns[1] // 32]
    scales = np.ascontiguousarray(blocks[:, :, :2]).view(np.float16)[:, :, 0]
    codes = np.ascontiguousarray(blocks[:, :, 2:]).reshape(len(raw), -1)
    release(source)
    return {"codes": codes, "scales": scales}


def _parts(coded: CodedRows, matrix: RowMatrix) -> dict[str, np.ndarray]:
    form, columns = matrix.form, matrix.columns
    codes, scales, zeros = coded.codes, coded.block_scales, coded.zeros
    if columns:
        block = form.block if form else 0
        codes = codes[:, slice(*columns)]
        if block:
            places = slice(columns[0] // block, -(-columns[1] // block))
            scales = scales[:, places]
            zeros = zeros[:, places] if zeros is not None else None
    if isinstance(form, FloatForm):
        return {"codes": codes, "scales": scales.astype(np.float32)}
    assert isinstance(form, IntegerForm)
    parts = {"codes": _nibbles(codes, form), "scales": _halves(scales)}
    return parts if zeros is None else {**parts, "zeros": zeros}


def _nibbles(codes: NDArray[Any], form: IntegerForm) -> np.ndarray:
    rows, columns = codes.shape
    shifted = codes.view(np.uint8) + np.uint8(_MIDDLE if form.symmetric else 0)
    halves = shifted.reshape(rows, columns // form.block, 2, form.block // 2)
    packed: np.ndarray = halves[:, :, 0] | (halves[:, :, 1] << 4)
    return packed.reshape(rows, columns // 2)


def _halves(scales: NDArray[np.float32]) -> np.ndarray:
    with np.errstate(over="ignore"):
        halves = scales.astype(np.float16)
    if not np.isfinite(halves).all():
        raise BadInput(
            f"a scale of {scales.max():.3g} is more than float16 holds",
            hint="use --quant bf16 or fp8_block",
        )
    return halves
