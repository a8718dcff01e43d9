"""A bundle of a network: run, verified, profiled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelc.bundle.read import BundleFiles, open_bundle
from modelc.errors import BadInput, Where
from modelc.pipeline.network.profile import ProfileReport, profile_bundle
from modelc.pipeline.network.runtime import NetworkRuntime, open_network
from modelc.pipeline.network.verify import verify_bundle
from modelc.pipeline.recipe_use import NETWORK

if TYPE_CHECKING:
    from modelc.pipeline.compile import CompileReport

Arrays = Mapping[str, np.ndarray]


class NetworkBundle:
    """A compiled network: its files, and the runtime that runs it here."""

    def __init__(self, files: BundleFiles, *, threads: int = 0, chipset: str | None = None) -> None:
        if files.manifest.runtime != NETWORK:
            raise BadInput(
                "the bundle is a language model's",
                where=Where(path=str(files.path)),
                hint="open it with modelc.Bundle",
            )
        self.path = files.path
        self.manifest = files.manifest
        self.report: CompileReport | None = None
        self._threads = threads
        self._chipset = chipset

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        threads: int = 0,
        check: bool = True,
        chipset: str | None = None,
    ) -> NetworkBundle:
        """Open a bundle after checking every file's SHA-256 (`check=False`: sizes only).

        Args:
            threads: of the CPU's runtime, 0 for its own choice.
            chipset: which of those that it was compiled for; None for the first.

        Raises:
            BadInput: no bundle of a network, or one that a newer modelc made.
            Damaged: a file is missing or not what the manifest says.
        """
        files = open_bundle(Path(path), check_contents=check)
        return cls(files, threads=threads, chipset=chipset)

    @cached_property
    def runtime(self) -> NetworkRuntime:
        """What runs it on this machine.

        Raises:
            Missing: nothing does.
        """
        return open_network(self.path, self.manifest.settings, self._chipset, self._threads)

    @property
    def inputs(self) -> list[dict[str, Any]]:
        """Name, dtype and shape of each input."""
        return list(self.manifest.settings["inputs"])

    def run(self, feeds: Arrays | Iterable[Arrays]) -> list[dict[str, np.ndarray]]:
        """Return the outputs of one or several inferences, by name.

        Args:
            feeds: array by input name, of one inference or of each.

        Raises:
            BadInput: one does not fit the inputs.
            Missing: the bundle holds nothing that runs here.
        """
        several = [feeds] if isinstance(feeds, Mapping) else feeds
        return list(self.runtime.run(self._checked(feed) for feed in several))

    def verify(self) -> dict[str, Any]:
        """Compare the bundle with the float model's outputs that it carries: the JSON form."""
        return verify_bundle(self.path, self.manifest, self._threads)

    def profile(self, feeds: Iterable[Arrays] | None = None) -> ProfileReport:
        """Return what each operator costs, on the samples that the bundle carries if none are
        given; cycles are the simulator's.

        Raises:
            Missing: the bundle has no context binary.
        """
        return profile_bundle(self.path, self.manifest, self._chipset, feeds)

    def _checked(self, feed: Arrays) -> dict[str, np.ndarray]:
        from modelc.quant.feeds.inputs import InputSpec, fit_feed

        specs = [
            InputSpec(row["name"], np.dtype(row["dtype"]), tuple(row["shape"]))
            for row in self.inputs
        ]
        return fit_feed(feed, specs, "the feed", Where(step="run"))
