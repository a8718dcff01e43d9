"""What a way of packing matrices for MatMulNBits is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from modelc.ir.packing.weight import Layout, PackedWeight
from modelc.ir.stored import StoredMatrix

PackedSlab = tuple[PackedWeight, NDArray[np.float32] | None]
"""Some packed rows, and what they were if packing changes numbers that were codes."""


class Packing(Protocol):
    """One way of packing. Equal ones make equal bytes of equal matrices."""

    @property
    def layout(self) -> Layout:
        """What is made."""

    @property
    def how(self) -> str:
        """The computation as part of a tensor's identity."""

    def slabs(self, source: StoredMatrix) -> Iterator[PackedSlab]:
        """Yield a matrix's stored rows packed, some at a time."""

    def rounds(self, source: StoredMatrix) -> str:
        """Return the format or form whose codes are not kept, "" if all are or there were none."""
