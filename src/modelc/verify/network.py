"""How far a compiled network's outputs are from the float model's, output by output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelc.errors import ModelcError, Where
from modelc.verify.metrics import cosine_similarity, decibels, top1_agreement
from modelc.verify.report import Check, finite
from modelc.verify.selections import SelectionMetrics, Selections

Outputs = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class NetworkThresholds:
    """The least that every output must reach; None is no threshold.

    Attributes:
        min_sqnr_db, min_cosine: of outputs of floats.
        min_top1: of outputs that look like classes.
        min_agreement: of outputs whose sizes depend on the inputs' numbers.
    """

    min_sqnr_db: float
    min_cosine: float
    min_top1: float | None = None
    min_agreement: float = 0.0


@dataclass(frozen=True)
class OutputMetrics:
    """One output against the reference, over all samples.

    Attributes:
        sqnr_db: over all elements; infinite if they are equal.
        cosine: mean over samples, each taken as one vector.
        max_error: largest absolute difference.
        top1: share of rows whose largest element is the same one, where the output looks like
            classes: [rows, 2 or more], floats. None elsewhere.
        equal: share of elements that are the same.
        samples: how many were compared.
    """

    name: str
    sqnr_db: float
    cosine: float
    max_error: float
    top1: float | None
    equal: float
    samples: int
    is_float: bool

    def document(self) -> dict[str, Any]:
        """Return the JSON form that scripts rely on."""
        return {
            "sqnr_db": finite(self.sqnr_db),
            "cosine": finite(self.cosine),
            "max_error": finite(self.max_error),
            "top1_agreement": self.top1,
            "equal": self.equal,
        }


@dataclass(frozen=True)
class NetworkVerification:
    """The result of comparing a network: where it ran, each output, and the checks.

    Attributes:
        selections: the outputs whose sizes depend on the inputs' numbers.
    """

    target: str
    runtime: str
    outputs: tuple[OutputMetrics, ...]
    checks: tuple[Check, ...]
    samples: int
    selections: tuple[SelectionMetrics, ...] = ()

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def document(self) -> dict[str, Any]:
        """Return the JSON form that scripts rely on."""
        return {
            "target": self.target,
            "passed": self.passed,
            "samples": self.samples,
            "outputs": {
                **{output.name: output.document() for output in self.outputs},
                **{output.name: output.document() for output in self.selections},
            },
            "checks": [vars(check) for check in self.checks],
            "runtime": self.runtime,
        }


def compare_network(
    target: str,
    runtime: str,
    pairs: Iterable[tuple[Outputs, Outputs]],
    open_axes: Mapping[str, Sequence[int]],
    limits: NetworkThresholds,
) -> NetworkVerification:
    """Compare outputs by name, one sample in memory at a time, and hold them to thresholds.

    Args:
        pairs: as for `compare_outputs`.
        open_axes: of the outputs whose sizes depend on the inputs' numbers, which axes do.

    Raises:
        ModelcError: as `compare_outputs`.
    """
    selections = {name: Selections(axes) for name, axes in open_axes.items()}
    sums: dict[str, _Sums] = {}
    samples = 0
    for reference, measured in pairs:
        samples += 1
        for name, wanted in reference.items():
            found = measured.get(name)
            if (selected := selections.get(name)) is None:
                sums.setdefault(name, _Sums()).add(wanted, _like(name, wanted, found))
            elif found is None or not selected.fits(wanted, found):
                raise _other(name, wanted, found)
            else:
                selected.add(wanted, found)
    if not samples:
        raise ModelcError("there is nothing to compare", where=Where(step="verify"))
    outputs = tuple(one.metrics(name) for name, one in sums.items())
    chosen = tuple(one.metrics(name) for name, one in selections.items())
    checks = (*network_checks(outputs, limits), *_selection_checks(chosen, limits))
    return NetworkVerification(target, runtime, outputs, checks, samples, chosen)


def compare_outputs(pairs: Iterable[tuple[Outputs, Outputs]]) -> tuple[OutputMetrics, ...]:
    """Compare outputs by name, in the reference's order, one sample in memory at a time.

    Args:
        pairs: the reference's and the measured outputs of each sample; the measured ones may have
            more.

    Raises:
        ModelcError: there is no sample, or an output is missing or has other sizes.
    """
    sums: dict[str, _Sums] = {}
    for reference, measured in pairs:
        for name, wanted in reference.items():
            found = _like(name, wanted, measured.get(name))
            sums.setdefault(name, _Sums()).add(wanted, found)
    if not sums:
        raise ModelcError("there is nothing to compare", where=Where(step="verify"))
    return tuple(one.metrics(name) for name, one in sums.items())


def network_checks(
    outputs: Iterable[OutputMetrics], limits: NetworkThresholds
) -> tuple[Check, ...]:
    """Hold every output to the thresholds; one of integers must be the same in as many elements as
    `min_cosine` says."""
    checks = []
    for output in outputs:
        if not output.is_float:
            checks.append(_check(output.name, "equal", output.equal, limits.min_cosine))
            continue
        name = f"{output.name}.sqnr"
        detail = f"{output.sqnr_db:.1f} dB, at least {limits.min_sqnr_db:g} dB"
        checks.append(Check(name, output.sqnr_db >= limits.min_sqnr_db, detail))
        checks.append(_check(output.name, "cosine", output.cosine, limits.min_cosine))
        if output.top1 is not None and limits.min_top1 is not None:
            checks.append(_check(output.name, "top1_agreement", output.top1, limits.min_top1))
    return tuple(checks)


def _selection_checks(
    selections: Iterable[SelectionMetrics], limits: NetworkThresholds
) -> list[Check]:
    checks = []
    for one in selections:
        detail = f"{one.agreement:.3f} of {one.wanted} rows and {one.found} here, "
        detail += f"at least {limits.min_agreement:g}"
        if not one.wanted and not one.found:
            detail = "no sample gives a row of it, so nothing is told"
        passed = one.agreement >= limits.min_agreement
        checks.append(Check(f"{one.name}.agreement", passed, detail))
    return checks


def _like(name: str, wanted: np.ndarray, found: np.ndarray | None) -> np.ndarray:
    """Return `found` if it has the sizes of `wanted`.

    Raises:
        ModelcError: it hasn't.
    """
    if found is None or found.shape != wanted.shape:
        raise _other(name, wanted, found)
    return found


def _other(name: str, wanted: np.ndarray, found: np.ndarray | None) -> ModelcError:
    got = "nothing" if found is None else list(found.shape)
    return ModelcError(
        f"the output {name} {list(wanted.shape)} came out as {got}",
        where=Where(step="verify"),
        hint="what was run is another graph than the reference",
    )


def _check(output: str, what: str, value: float, least: float) -> Check:
    return Check(f"{output}.{what}", value >= least, f"{value:.5f}, at least {least:g}")


class _Sums:
    """What is kept of one output's samples."""

    def __init__(self) -> None:
        self._signal = self._noise = self._cosine = self._largest = self._top1 = 0.0
        self._equal = self._elements = self._samples = 0
        self._is_float = self._is_classes = True

    def add(self, wanted: np.ndarray, found: np.ndarray) -> None:
        self._is_float = self._is_float and wanted.dtype.kind == "f"
        self._is_classes = self._is_classes and wanted.ndim == 2 and wanted.shape[-1] > 1
        self._samples += 1
        self._elements += wanted.size
        same = wanted == found
        self._equal += int(np.count_nonzero(same))
        one, other = (array.astype(np.float64).reshape(1, -1) for array in (wanted, found))
        # What is infinite in both, as a mask is, is no difference.
        shown = ~(same.reshape(1, -1) & ~np.isfinite(one))
        one, other = np.where(shown, one, 0.0), np.where(shown, other, 0.0)
        with np.errstate(invalid="ignore", over="ignore"):
            errors = np.abs(one - other)
            self._noise += float(np.square(errors).sum())
            self._signal += float(np.square(one).sum())
            self._largest = float(np.maximum(self._largest, errors.max(initial=0.0)))
            self._cosine += cosine_similarity(one, other) if wanted.size else 1.0
        if self._is_float and self._is_classes:
            self._top1 += top1_agreement(wanted, found)

    def metrics(self, name: str) -> OutputMetrics:
        is_classes = self._is_float and self._is_classes
        with np.errstate(divide="ignore"):  # infinite noise
            sqnr_db = decibels(self._signal, self._noise)
        return OutputMetrics(
            name,
            sqnr_db,
            self._cosine / self._samples,
            self._largest,
            self._top1 / self._samples if is_classes else None,
            self._equal / self._elements if self._elements else 1.0,
            self._samples,
            self._is_float,
        )
