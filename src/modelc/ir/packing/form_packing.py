"""Integer codes of a form packed for MatMulNBits, whose numbers they keep."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modelc.ir.coded import CodedMatrix
from modelc.ir.packing.bits import pack_bits
from modelc.ir.packing.blocks import PACKERS
from modelc.ir.packing.coded_rows import CodedRows
from modelc.ir.packing.coded_slabs import coded_slabs, keeps
from modelc.ir.packing.fit import refit
from modelc.ir.packing.kinds import Form, IntegerForm
from modelc.ir.packing.packing import PackedSlab
from modelc.ir.packing.weight import Bits, Layout, PackedWeight
from modelc.ir.stored import StoredMatrix

_BITS: Final[dict[int, Bits]] = {2: 2, 3: 4, 4: 4, 8: 8}  # there is no kernel for 3
_BLOCKS: Final = (16, 32, 64, 128, 256)
_OF_CHANNELS: Final = 128  # the kernels are fastest with few scales


@dataclass(frozen=True)
class FormPacking:
    """Codes of a form, which a matrix may consist of already.

    Attributes:
        form: one that `form_packing` takes.
        block_size: of the blocks that get the form's scales.
    """

    form: IntegerForm
    block_size: int

    @property
    def layout(self) -> Layout:
        return Layout(_BITS[self.form.bits], self.block_size, zero_points=not self.form.symmetric)

    @property
    def how(self) -> str:
        return f"{self.form} in blocks of {self.block_size}"

    def slabs(self, source: StoredMatrix) -> Iterator[PackedSlab]:
        for coded, values in measured_slabs(source, self.form):
            yield self.pack(coded), values

    def rounds(self, source: StoredMatrix) -> str:
        return rounded_codes(source, self.form)

    def pack(self, coded: CodedRows) -> PackedWeight:
        """Pack codes of the form: exact."""
        in_blocks = replace(self.form, block=self.block_size, block_rows=1, scale_bits=0)
        coded = refit(coded, in_blocks)
        bits, (rows, columns) = self.layout.bits, coded.codes.shape
        codes = coded.codes.view(np.uint8)
        if coded.zeros is None:
            codes = codes + np.uint8(1 << (bits - 1))
        if missing := -columns % self.block_size:
            codes = np.pad(codes, ((0, 0), (0, missing)))
        return PackedWeight(
            bits,
            self.block_size,
            pack_bits(codes, bits).reshape(rows, -1, self.block_size * bits // 8),
            coded.scales,
            None if coded.zeros is None else pack_bits(coded.zeros, bits),
        )


def form_packing(form: Form, columns: int) -> FormPacking | None:
    """Return how matrices of a form and so many inputs are packed exactly; None if MatMulNBits has
    no numbers or no blocks like theirs. A channel's scale is that of all of its blocks."""
    if not isinstance(form, IntegerForm) or form.bits not in _BITS:
        return None
    if form.block:
        return FormPacking(form, form.block) if form.block in _BLOCKS else None
    enough = next((block for block in _BLOCKS if block >= columns), _OF_CHANNELS)
    return FormPacking(form, min(enough, _OF_CHANNELS))


def rounded_codes(source: StoredMatrix, form: Form) -> str:
    """Return the format or form of the codes that a matrix consists of and that codes of another
    form can't keep; "" if they can, or there are none."""
    if isinstance(source, CodedMatrix):
        return "" if keeps(source, form) else source.what
    return source.format if source.format in PACKERS else ""


def measured_slabs(
    source: StoredMatrix, form: Form
) -> Iterator[tuple[CodedRows, NDArray[np.float32] | None]]:
    """Yield rows as codes of a form, some at a time, and the numbers that they were if these were
    codes that are not kept."""
    lossy, stored = bool(rounded_codes(source, form)), replace(source, transposed=False)
    for first, coded in coded_slabs(source, form):
        rows = np.arange(first, first + len(coded.codes))
        yield coded, stored.decode_rows(rows) if lossy else None
