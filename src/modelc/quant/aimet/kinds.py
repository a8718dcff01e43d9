"""The weights of a file in HTP's terms: the kind of each, and its scales."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from modelc.ir.packing.given_scales import GivenScales
from modelc.ir.packing.kinds import MATRIX_KINDS, TABLE_KINDS, IntegerForm
from modelc.quant.aimet.encodings import UNSIGNED, TensorEncoding
from modelc.quant.aimet.match import MATRICES
from modelc.quant.overrides import EMBEDDING, known_kinds


@dataclass(frozen=True)
class ImportedKinds:
    """What becomes of the weights that a file names.

    Attributes:
        kinds: module -> kind of its matrix or table.
        others: name of a weight -> what the file says of it, which is nothing that HTP's kinds
            can say; its module keeps the kind that it has without the file.
    """

    kinds: Mapping[str, str]
    others: Mapping[str, str]


def imported_kinds(weights: Mapping[str, TensorEncoding]) -> ImportedKinds:
    """Find the kinds of what `match_weights` found."""
    kinds, others = {}, {}
    for name, found in weights.items():
        module = name.removesuffix(".weight")
        kind = _table_kind(found) if module == EMBEDDING else _matrix_kind(found)
        if name.endswith(MATRICES) and kind in known_kinds(module):
            kinds[module] = kind
        else:
            others[name] = _describe(found)
    return ImportedKinds(kinds, others)


def given_scales(found: TensorEncoding, kind: str, first_row: int, outputs: int) -> GivenScales:
    """Return the scales of a matrix, whose encoding is of a kind.

    Args:
        first_row: where the matrix begins among the stored rows.
    """
    if found.block_scales is None:
        scales = found.by_channel(outputs).reshape(outputs, -1)
        return GivenScales(kind, first_row, scales)
    return GivenScales(
        kind,
        first_row,
        found.scales.astype(np.float32).reshape(outputs, 1),
        found.block_scales.astype(np.uint8).reshape(outputs, -1),
    )


def _matrix_kind(found: TensorEncoding) -> str | None:
    if found.granularity == "tensor" or not found.centred:
        return None
    return next((kind for kind, form in MATRIX_KINDS.items() if _is_of(found, form)), None)


def _is_of(found: TensorEncoding, form: IntegerForm) -> bool:
    """A block's scale may be as many times its channel's as AIMET has it: 2^bits, one more than
    is searched for here."""
    fits = found.block_scales is None or found.block_scales.max() <= 1 << form.scale_bits
    said = (found.stored_bits, found.block_size, found.bits - found.stored_bits)
    return bool(fits) and said == (form.bits, form.block, form.scale_bits)


def _table_kind(found: TensorEncoding) -> str | None:
    if found.granularity != "tensor":
        return None
    types = {dtype: kind for kind, dtype in TABLE_KINDS.items()}
    return types.get(UNSIGNED.get(found.bits, "int32"))


def _describe(found: TensorEncoding) -> str:
    """For people: "4 bits in blocks of 8", "8 bits per tensor, asymmetric"."""
    size, factors = found.block_size, found.block_scales
    words = f"{found.stored_bits} bits " + (
        f"in blocks of {size}" if size else f"per {found.granularity}"
    )
    if factors is not None:
        bits = found.bits - found.stored_bits
        words += f" with scales of {bits} bits"
        words += f" up to {factors.max()}" if factors.max() > 1 << bits else ""
    return words if found.centred else f"{words}, asymmetric"
