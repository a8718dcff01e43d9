"""How matrices of linear layers are coded, as named rows; and the table of an embedding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:  # the table is listed before anything heavy is loaded
    import numpy as np
    import onnx_ir as ir

    from modelc.ir.encodings import IntegerType

MatrixKind = Literal["w16", "w8", "w4", "w4_b32", "w4_b64", "w4_lpbq"]
TableKind = Literal["w16", "w8"]
Bits = Literal[2, 3, 4, 8, 16]
Element = Literal["e4m3", "e5m2", "e3m2", "e2m3", "e2m1"]


@dataclass(frozen=True)
class IntegerForm:
    """Integer codes: value = (code - zero) * scale, zero being 0 if they are symmetric.

    Attributes:
        bits: of a code.
        block: how many neighbours along the inputs share a scale; 0: all of an output channel.
        scale_bits: where not 0, the scale of a block is an integer from 1 to 2^scale_bits - 1
            times a float of the channel (low-power block quantisation).
        since: the first HTP architecture whose compiler takes it, as tried; 0: none does.
        symmetric: codes around 0; otherwise from 0 up, with a zero for each scale.
        block_rows: how many output channels share a scale; 0: all of them.
    """

    bits: Bits
    block: int = 0
    scale_bits: int = 0
    since: int = 0
    symmetric: bool = True
    block_rows: int = 1

    @property
    def dtype(self) -> ir.DataType:
        """Of symmetric codes in a graph."""
        import onnx_ir as ir

        return ir.DataType[f"INT{max(self.bits, 4)}"]

    @property
    def array_type(self) -> np.dtype[Any]:
        """Of the codes in memory."""
        import numpy as np

        size = max(self.bits // 8, 1)
        return np.dtype(f"i{size}" if self.symmetric else f"u{size}")

    @property
    def lowest(self) -> int:
        """As far as the highest, but of the few codes of 4 bits and less each counts."""
        if not self.symmetric:
            return 0
        return -self.highest - (self.bits <= 4)

    @property
    def highest(self) -> int:
        return (1 << (self.bits - self.symmetric)) - 1

    @property
    def bits_per_weight(self) -> float:
        """With the scales of blocks, and their zeros; those of channels are few."""
        each = (self.scale_bits or 32) + (0 if self.symmetric else self.bits)
        return self.bits + each / self.block if self.block else self.bits

    def __str__(self) -> str:
        scales = f" with scales of {self.scale_bits} bits" if self.scale_bits else ""
        sign = "" if self.symmetric else "u"
        return f"{sign}int{self.bits} {_shared(self.block, self.block_rows)}{scales}"


@dataclass(frozen=True)
class FloatForm:
    """Small floats: value = code * scale.

    Attributes:
        element: exponent and mantissa bits: OCP's FP8 without infinities (e4m3), with them (e5m2),
            and the MX formats' FP6 and FP4.
        block, block_rows: inputs and output channels that share a scale; 0: all of them.
        power_scales: scales are powers of two, as the MX formats have them (E8M0).
    """

    element: Element
    block: int = 0
    block_rows: int = 1
    power_scales: bool = False

    @property
    def bits(self) -> int:
        return 1 + int(self.element[1]) + int(self.element[3])

    @property
    def array_type(self) -> np.dtype[Any]:
        """Of the codes in memory."""
        import ml_dtypes
        import numpy as np

        dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, _ELEMENTS[self.element]))
        return dtype

    @property
    def highest(self) -> float:
        """The largest finite number."""
        return _LARGEST[self.element]

    @property
    def bits_per_weight(self) -> float:
        """With the scales of blocks; those of channels are few."""
        shared = self.block * self.block_rows
        return self.bits + ((8 if self.power_scales else 32) / shared if shared else 0)

    def __str__(self) -> str:
        scales = " with scales of powers of two" if self.power_scales else ""
        return f"{self.element} {_shared(self.block, self.block_rows)}{scales}"


Form = IntegerForm | FloatForm

_ELEMENTS: Final[Mapping[Element, str]] = {
    "e4m3": "float8_e4m3fn",
    "e5m2": "float8_e5m2",
    "e3m2": "float6_e3m2fn",
    "e2m3": "float6_e2m3fn",
    "e2m1": "float4_e2m1fn",
}
"""What ml_dtypes calls them."""
_LARGEST: Final[Mapping[Element, float]] = {
    "e4m3": 448.0,
    "e5m2": 57344.0,
    "e3m2": 28.0,
    "e2m3": 7.5,
    "e2m1": 6.0,
}


def _shared(block: int, block_rows: int) -> str:
    if not block:
        return "per channel" if block_rows == 1 else "per tensor"
    return f"in blocks of {block}" if block_rows == 1 else f"in blocks of {block_rows}x{block}"


_BLOCKS: Final = (16, 32, 40, 64, 128)  # 40 is MLC's for 3 bits: ten codes in a word of 32

MATRIX_KINDS: Final[Mapping[str, IntegerForm]] = {
    "w16": IntegerForm(16, since=73),
    "w8": IntegerForm(8, since=68),
    "w4": IntegerForm(4, since=68),
    "w4_b32": IntegerForm(4, 32, since=69),
    "w4_b64": IntegerForm(4, 64, since=69),
    "w4_lpbq": IntegerForm(4, 32, scale_bits=4, since=68),
}
"""Those that HTP takes."""

FLOAT_KINDS: Final[Mapping[str, FloatForm]] = {
    "e4m3": FloatForm("e4m3", block_rows=0),
    "e4m3_channel": FloatForm("e4m3"),
    "e4m3_b128": FloatForm("e4m3", 128, 128),
    "e5m2": FloatForm("e5m2", block_rows=0),
    "e5m2_channel": FloatForm("e5m2"),
    "e5m2_b128": FloatForm("e5m2", 128, 128),
    "mxfp4": FloatForm("e2m1", 32, power_scales=True),
    "mxfp6": FloatForm("e2m3", 32, power_scales=True),
    "mxfp6_e3m2": FloatForm("e3m2", 32, power_scales=True),
    "mxfp8": FloatForm("e4m3", 32, power_scales=True),
}

KINDS: Final[Mapping[str, Form]] = {
    **MATRIX_KINDS,
    "w8_tensor": IntegerForm(8, block_rows=0),
    **{f"w{bits}": IntegerForm(bits) for bits in (3, 2)},
    **{
        f"w{bits}_b{block}": IntegerForm(bits, block)
        for bits in (8, 4, 3, 2)
        for block in _BLOCKS
        if f"w{bits}_b{block}" not in MATRIX_KINDS
    },
    **{f"u{bits}": IntegerForm(bits, symmetric=False) for bits in (8, 4, 3, 2)},
    **{
        f"u{bits}_b{block}": IntegerForm(bits, block, symmetric=False)
        for bits in (8, 4, 3, 2)
        for block in _BLOCKS
    },
    **FLOAT_KINDS,
}
"""All of them: w for symmetric integers, u for those with zeros, b for blocks."""

TABLE_KINDS: Final[Mapping[str, IntegerType]] = {"w16": "uint16", "w8": "uint8"}
