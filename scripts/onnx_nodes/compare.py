"""Whether outputs are what a test expects, as far as a scheme can tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from modelc.quant.network.schemes import NetworkScheme
from modelc.verify.network import NetworkThresholds, compare_outputs, network_checks

SMALLEST: Final = float(np.finfo(np.float16).tiny)
HALF_LARGEST: Final = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Comparison:
    """Outputs against those expected.

    Attributes:
        difference: what is wrong, "" if nothing is.
        error: the largest difference, relative to the largest number of its output.
        sqnr_db: the least of the float outputs that aren't equal.
    """

    difference: str
    error: float
    sqnr_db: float | None


def compare(
    expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray], tolerance: float
) -> Comparison:
    """Compare by name; integers must be equal, NaN and infinities be where they are expected.

    Args:
        tolerance: of the largest number expected.
    """
    wrong, worst, least = "", 0.0, None
    for name, wanted in expected.items():
        got = found[name]
        if (got.shape, got.dtype) != (wanted.shape, wanted.dtype):
            shown = f"{got.dtype} {list(got.shape)}, not {wanted.dtype} {list(wanted.shape)}"
            return Comparison(f"{name} is {shown}", float("inf"), None)
        if wanted.dtype.kind != "f":
            differing = int(np.count_nonzero(got != wanted))
            if differing:
                wrong = wrong or f"{differing} of {wanted.size} elements of {name} differ"
                worst = max(worst, float(differing) / wanted.size)
            continue
        finite = np.isfinite(wanted)
        if not np.array_equal(wanted[~finite], got[~finite], equal_nan=True):
            wrong = wrong or f"{name} isn't NaN or infinite where it should be"
        if not np.isfinite(got[finite]).all():
            wrong, worst = wrong or f"{name} is NaN or infinite where it shouldn't be", float("inf")
            continue
        one, other = wanted[finite].astype(np.float64), got[finite].astype(np.float64)
        error = np.abs(one - other).max(initial=0.0) / max(np.abs(one).max(initial=0.0), SMALLEST)
        if error > tolerance:
            wrong = wrong or f"{name} is off by {error:.2g} of its largest number"
        worst = max(worst, float(error))
        noise = float(np.square(one - other).sum())
        if noise:
            ratio = float(np.square(one).sum()) / noise
            decibels = 10 * float(np.log10(ratio)) if ratio else float("-inf")
            least = decibels if least is None else min(least, decibels)
    return Comparison(wrong, worst, least)


def is_verified(
    reference: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray], scheme: NetworkScheme
) -> bool:
    """Whether modelc's own verification passes, at the scheme's thresholds."""
    if any(a.dtype.kind == "f" and np.isnan(a).any() for a in reference.values()):
        return False  # a float model that makes NaN is refused as a reference
    limits = NetworkThresholds(scheme.min_sqnr_db, scheme.min_cosine)
    outputs = compare_outputs([(reference, found)])
    return all(check.passed for check in network_checks(outputs, limits))
