"""What each operator of a network's bundle costs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from modelc.bundle.manifest import Manifest
from modelc.errors import Missing, Where
from modelc.ir.arrays import load_sequence
from modelc.pipeline.network.edge_codes import encoded, encodings_of
from modelc.pipeline.network.runtime import bundled_packages
from modelc.pipeline.network.steps import SAMPLES
from modelc.pipeline.network.steps_htp import COSTS
from modelc.targets.snapdragon.network.profile import NetworkProfile, profile_network

TIMEOUT_S: Final = 3600.0


@dataclass(frozen=True)
class ProfileReport:
    """A profile, and what each node costs wherever it runs.

    Attributes:
        costs: node, op_type, module, macs, weight_bytes, activation_bytes of each node of the
            graph that was compiled.
        on_cpu: name, op_type, module and why of each node that the CPU runs, the network's tail
            being among them; what these take is not measured.
    """

    profile: NetworkProfile
    costs: tuple[Mapping[str, Any], ...]
    on_cpu: tuple[Mapping[str, Any], ...]

    def document(self) -> dict[str, Any]:
        """Return the JSON form that scripts rely on."""
        return {
            **asdict(self.profile),
            "costs": [dict(row) for row in self.costs],
            "on_cpu": [dict(row) for row in self.on_cpu],
        }


def profile_bundle(
    folder: Path,
    manifest: Manifest,
    chipset: str | None = None,
    feeds: Iterable[Mapping[str, np.ndarray]] | None = None,
) -> ProfileReport:
    """Run a bundle's binary, all parts of it, in the simulator with the provider's profiling on.

    Args:
        feeds: one for each run; by default the first sample that the bundle carries.

    Raises:
        Missing: the bundle has no context binary.
        BadInput: as `profile_network`.
    """
    settings = manifest.settings
    name = chipset or next(iter(settings["wrappers"]), "")
    if name not in settings["wrappers"]:
        raise Missing(
            "the bundle holds no context binary to profile",
            where=Where(path=str(folder)),
            hint="compile it for a chipset with --format context-binary",
        )
    wrapper = folder / settings["wrappers"][name]
    given = list(feeds) if feeds is not None else list(islice(load_sequence(folder / SAMPLES), 1))
    if "codes" in settings:
        given = [encoded(feed, encodings_of(settings["codes"])) for feed in given]
    with tempfile.TemporaryDirectory(prefix="modelc-") as scratch:
        profile = profile_network(
            wrapper,
            wrapper.with_suffix(".operators.json"),
            given,
            workdir=Path(scratch),
            timeout_s=TIMEOUT_S,
            op_packages=bundled_packages(settings),
        )
    costs = tuple(json.loads((folder / COSTS).read_text()))
    return ProfileReport(profile, costs, tuple(settings["chipsets"][name]["partition"]["cpu"]))
