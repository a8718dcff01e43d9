"""How HTP takes the matrices of linear layers, and the table of an embedding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import onnx_ir as ir

from modelc.ir.encodings import IntegerType

MatrixKind = Literal["w16", "w8", "w4", "w4_b32", "w4_b64", "w4_lpbq"]
TableKind = Literal["w16", "w8"]


@dataclass(frozen=True)
class IntegerForm:
    """Symmetric codes: value = code * scale.

    Attributes:
        bits: of a code.
        block: how many neighbours along the inputs share a scale; 0: all of an output channel.
        scale_bits: where not 0, the scale of a block is an integer from 1 to 2^scale_bits - 1
            times a float of the channel (low-power block quantisation).
        since: the first HTP architecture whose compiler takes it, as tried.
    """

    bits: Literal[4, 8, 16]
    block: int = 0
    scale_bits: int = 0
    since: int = 68

    @property
    def dtype(self) -> ir.DataType:
        return ir.DataType[f"INT{self.bits}"]

    @property
    def lowest(self) -> int:
        """As far as the highest, but of the 16 codes of 4 bits each counts."""
        return -8 if self.bits == 4 else -self.highest

    @property
    def highest(self) -> int:
        return (1 << (self.bits - 1)) - 1

    @property
    def bits_per_weight(self) -> float:
        """With the scales of blocks; those of channels are few."""
        return self.bits + (self.scale_bits or 32) / self.block if self.block else self.bits

    def __str__(self) -> str:
        shared = f"in blocks of {self.block}" if self.block else "per channel"
        scales = f" with scales of {self.scale_bits} bits" if self.scale_bits else ""
        return f"int{self.bits} {shared}{scales}"


MATRIX_KINDS: Final[Mapping[str, IntegerForm]] = {
    "w16": IntegerForm(16, since=73),
    "w8": IntegerForm(8),
    "w4": IntegerForm(4),
    "w4_b32": IntegerForm(4, 32, since=69),
    "w4_b64": IntegerForm(4, 64, since=69),
    "w4_lpbq": IntegerForm(4, 32, scale_bits=4),
}
TABLE_KINDS: Final[Mapping[str, IntegerType]] = {"w16": "uint16", "w8": "uint8"}
