"""Verifies a network's bundle again, wherever it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from modelc.bundle.manifest import Manifest
from modelc.errors import Missing, Where
from modelc.pipeline.network.job import FLOAT_CPU
from modelc.pipeline.network.partition import left_to_cpu
from modelc.pipeline.network.runtime import open_network
from modelc.pipeline.network.steps_verify import compare_all
from modelc.quant.network.schemes import NETWORK_SCHEMES, NetworkScheme

_SCHEMES: Final[dict[str, NetworkScheme]] = {**NETWORK_SCHEMES, FLOAT_CPU.name: FLOAT_CPU}


def verify_bundle(folder: Path, manifest: Manifest, threads: int = 0) -> dict[str, Any]:
    """Run every binary of a bundle, or the CPU's graph, on the samples that it carries.

    Returns:
        The JSON form of the verification.

    Raises:
        Missing: the bundle holds nothing that runs here.
    """
    settings = manifest.settings
    names = list(settings["wrappers"]) or ([""] if settings["cpu"] else [])
    if not names:
        raise Missing(
            "the bundle holds no context binary, which is what runs here",
            where=Where(path=str(folder)),
            hint="compile it with --format context-binary as well",
        )
    runtimes = {
        name or "cpu": open_network(folder, settings, name or None, threads, inner=True)
        for name in names
    }
    scheme, asked = _SCHEMES[manifest.recipe["quant"]], manifest.recipe["verify"]
    limits = {
        "min_sqnr_db": scheme.min_sqnr_db if asked["min_sqnr_db"] is None else asked["min_sqnr_db"],
        "min_cosine": scheme.min_cosine if asked["min_cosine"] is None else asked["min_cosine"],
        "min_top1": asked["min_top1"],
        "min_agreement": asked.get("min_agreement", 0.0),  # bundles from before have no such output
    }
    on_cpu = {name: left_to_cpu(told["partition"]) for name, told in settings["chipsets"].items()}
    return {**compare_all(runtimes, folder, limits, settings), "on_cpu": on_cpu}
