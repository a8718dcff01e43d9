"""Runs a compiled model on the verification text and holds it to its thresholds."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from modelc.errors import Damaged, Where
from modelc.files import DAMAGED_ZIP
from modelc.quant.schemes import SCHEMES
from modelc.targets.runtime import Runtime
from modelc.verify.report import Check, Thresholds, Verification, measure, threshold_checks

# Target family -> function(folders: Mapping[str, Path], settings: Mapping[str, Any]) -> Runtime
RUNTIMES: Final[dict[str, str]] = {
    "cpu": "modelc.targets.cpu.runtime:open_runtime",
    "snapdragon": "modelc.targets.snapdragon.runtime:open_runtime",
    "qaic": "modelc.targets.qaic.runtime:open_runtime",
    "cuda": "modelc.targets.cuda.runtime:open_runtime",
}


def open_runtime(family: str, files: Mapping[str, Path], settings: Mapping[str, Any]) -> Runtime:
    """Load a compiled model of a target family.

    Args:
        files: role -> file or folder, as the family's runtime names them.
        settings: plain values that the runtime needs (context_length, threads, ...).
    """
    module, _, name = RUNTIMES[family].partition(":")
    runtime: Runtime = getattr(importlib.import_module(module), name)(files, settings)
    return runtime


def verify_runtime(
    runtime: Runtime, target: str, reference: Path, thresholds: Thresholds
) -> Verification:
    """Compare a runtime's logits with the reference's of the same tokens.

    Args:
        reference: an .npz with `token_ids` int32 [n] and `logits` float32 [n, vocab].

    Raises:
        Damaged: the file is not such an archive.
    """
    token_ids, expected = load_reference(reference)
    measured = runtime.logits(token_ids)
    metrics = measure(expected, measured, token_ids)
    found = (vars(finding) for finding in runtime.findings(token_ids, measured))
    checks = (*threshold_checks(metrics, thresholds), *(Check(**finding) for finding in found))
    return Verification(target, runtime.name, metrics, checks)


def thresholds_of(recipe: Mapping[str, Any]) -> Thresholds:
    """Return the thresholds of a resolved recipe's JSON form: its own, or its scheme's."""
    scheme = SCHEMES[recipe["quant"]]
    names = ("min_sqnr_db", "min_top1", "max_perplexity_ratio")
    asked = {name: recipe["verify"][name] for name in names}
    return Thresholds(
        **{n: getattr(scheme, n) if value is None else value for n, value in asked.items()},
        max_kl_divergence=recipe["verify"].get("max_kl_divergence"),  # of old bundles there is none
    )


def load_reference(path: Path) -> tuple[list[int], np.ndarray]:
    """Return the token ids and the float model's logits after each of them."""
    try:
        with np.load(path, allow_pickle=False) as data:
            token_ids, logits = data["token_ids"], data["logits"]
    except (*DAMAGED_ZIP, KeyError) as error:
        raise Damaged(f"no reference logits: {error}", where=Where(path=str(path))) from error
    if logits.ndim != 2 or token_ids.shape != logits.shape[:1] or logits.dtype != np.float32:
        raise Damaged("reference logits of a wrong shape", where=Where(path=str(path)))
    return [int(token) for token in token_ids], logits
