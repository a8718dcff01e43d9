"""What a step's result depends on, and the key made of it: never a path, never a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, with_config

from modelc.hashing import digest
from modelc.pipeline.plan import Plan
from modelc.pipeline.step import plain
from modelc.pipeline.tools import tool_versions

Digests = Mapping[str, str]
"""File name inside a source -> SHA-256 (hex)."""


@with_config(ConfigDict(strict=True, extra="forbid"))
@dataclass(frozen=True)
class Fingerprint:
    """Everything that a step's result depends on.

    Attributes:
        inputs: step name -> key of its result.
        sources: name of what it reads outside the store -> digests of its files.
        tools: package -> version.
    """

    step: str
    run: str
    version: int
    options: Mapping[str, Any]
    inputs: Mapping[str, str]
    sources: Mapping[str, Digests]
    tools: Mapping[str, str]

    @property
    def key(self) -> str:
        """SHA-256 (hex) of all of it; the name of the result in the store."""
        return digest(self)


def fingerprints(plan: Plan, digests: Callable[[str], Digests]) -> dict[str, Fingerprint]:
    """Return each step's fingerprint by name; `digests` is asked once per source that is read.

    Raises:
        Missing: a tool that a step needs is not installed.
    """
    sources = {name: dict(digests(name)) for name in plan.reads()}
    made: dict[str, Fingerprint] = {}
    for step in plan.steps:
        made[step.name] = Fingerprint(
            step=step.name,
            run=step.run,
            version=step.version,
            options=dict(plain(step.options)),
            inputs={name: made[name].key for name in step.inputs},
            sources={name: sources[name] for name in step.reads},
            tools=tool_versions(step.tools),
        )
    return made
