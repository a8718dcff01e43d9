"""Which scheme keeps the codes of a source that came quantised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from modelc.ir.coded import CodedMatrix
from modelc.ir.packing.fit import fits
from modelc.ir.packing.kinds import KINDS, Form, IntegerForm
from modelc.ir.stored import StoredMatrix, tensor_shape
from modelc.quant.schemes import SCHEMES, Scheme


def stored_scheme(
    weights: Iterable[StoredMatrix], family: str, htp_arch: int | None = None
) -> str | None:
    """Return the scheme that keeps most of the codes of a source as they are, of several the one
    with the fewest bits, of these the first; None if none keeps any.

    Args:
        weights: all of the model's.
        family: of the target.
        htp_arch: of an HTP whose compiler has to take the scheme's kind.
    """
    sizes: Counter[tuple[Form | None, int]] = Counter()
    for weight in weights:
        if isinstance(weight, CodedMatrix):
            height, columns = tensor_shape(weight)
            sizes[weight.form, columns] += height * columns
    taken = [
        row
        for row in SCHEMES.values()
        if family in row.families and row.has_kinds and _compiles(KINDS[row.weights], htp_arch)
    ]

    def worth(row: Scheme) -> tuple[int, float]:
        form = KINDS[row.weights]
        kept = (size for (stored, columns), size in sizes.items() if fits(stored, form, columns))
        return sum(kept), -form.bits_per_weight

    best = max(taken, key=worth, default=None)
    return best.name if best and worth(best)[0] else None


def _compiles(form: Form, htp_arch: int | None) -> bool:
    return htp_arch is None or (isinstance(form, IntegerForm) and 0 < form.since <= htp_arch)
