"""What a target family adds to the steps that all share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelc.bundle.manifest import Graph, Manifest
from modelc.bundle.write import FromFile
from modelc.errors import Missing
from modelc.pipeline.job import Job
from modelc.pipeline.plan import Plan
from modelc.pipeline.step import Step
from modelc.pipeline.store import Entry


@dataclass(frozen=True)
class Contents:
    """What a family puts into a bundle.

    Attributes:
        files: its own, by name.
        settings: what was found out about them, for the manifest.
        resolved: options that the recipe left open, as they were chosen.
    """

    files: Mapping[str, FromFile]
    graphs: tuple[Graph, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    resolved: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """One target family.

    Attributes:
        canonical_length: context that the canonical graph is built for; 0 is the model's own.
        requires: raises Missing if a compile needs something that this machine lacks; a plan can
            be made and shown without it.
        stages: what there is to say of named groups of steps and their files, for `--dry-run`.
        steps: those between `canonical` and `verify`.
        runs_on: names of the steps whose results the runtime loads.
        ships: names of the steps whose files go into the bundle.
        tools: packages that run the result.
        reference: how the step runs that runs the float model (`Step`'s fields by name).
        verify_tokens: of the verification text, at most.
        contents: from the steps' results to the bundle's own files, by name, and graphs.
        settings: what the runtime must be told beside the model's sizes.
        files_of_steps: step name -> folder, to what the runtime loads, by role.
        files_of_bundle: the same for a bundle.
        after: the steps that only go ahead when the result was verified.
        lacking: what is missing on this machine of a bundle that was written; it goes without.
    """

    canonical_length: Callable[[Job], int]
    requires: Callable[[Job], None]
    stages: Callable[[Job, Plan], dict[str, Any]]
    steps: Callable[[Job], tuple[Step, ...]]
    runs_on: Callable[[Job], tuple[str, ...]]
    ships: Callable[[Job], tuple[str, ...]]
    tools: tuple[str, ...]
    reference: Callable[[Job], dict[str, Any]]
    verify_tokens: Callable[[Job], int]
    contents: Callable[[Job, Mapping[str, Entry]], Contents]
    settings: Callable[[Job], dict[str, Any]]
    files_of_steps: Callable[[Mapping[str, Path]], dict[str, Path]]
    files_of_bundle: Callable[[Path, Manifest], dict[str, Path]]
    after: Callable[[Job], tuple[Step, ...]] = lambda job: ()
    lacking: Callable[[Job, Path], Missing | None] = lambda job, bundle: None
