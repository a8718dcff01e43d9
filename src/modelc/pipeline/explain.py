"""Says for each step of a plan whether it would run, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from modelc.pipeline import history
from modelc.pipeline.fingerprint import Fingerprint, fingerprints
from modelc.pipeline.plan import Plan
from modelc.pipeline.sources import Sources
from modelc.pipeline.step import flatten
from modelc.pipeline.store import Store
from modelc.pipeline.survey import Finding, survey

Why = Literal[
    "cached",
    "never ran",
    "step version changed",
    "tool version changed",
    "options changed",
    "source changed",
    "input changed",
    "damaged",
    "removed",
    "needed again",
    "not needed",
]


@dataclass(frozen=True)
class Reason:
    """Why a step would run, or that it is cached.

    Attributes:
        why: the first that holds, a step's own changes before those of its inputs. A transient
            result is "not needed" while the steps that read it have theirs, and "needed again"
            when one of them has to run.
        details: all that changed since its last run for this target and source path; or who needs
            it again.
        key: of the result that it would have now.
    """

    step: str
    why: Why
    details: tuple[str, ...]
    key: str


def explain(
    plan: Plan, store: Store, sources: Mapping[str, Path], *, keep: bool = False
) -> list[Reason]:
    """Return a reason for each step, in the plan's order; runs nothing.

    Args:
        keep: as `execute` would be given.

    Raises:
        BadInput: a source is not there.
        Missing: a tool that a step declares is not installed.
    """
    outside = Sources(store, sources)
    prints = fingerprints(plan, outside.digests)
    found = survey(plan, prints, store, keep=keep)
    transient = plan.transient()
    return [
        _reason(
            prints[step.name],
            found[step.name],
            history.recall(store, plan.target, outside.origin, step.name),
            transient=step.name in transient,
        )
        for step in plan.steps
    ]


def _reason(
    now: Fingerprint, finding: Finding, last: Fingerprint | None, *, transient: bool
) -> Reason:
    if not finding.needed:
        return Reason(now.step, "not needed", (), now.key)
    if finding.state == "whole":
        return Reason(now.step, "cached", (), now.key)
    if finding.state == "damaged":
        return Reason(now.step, "damaged", (finding.detail,), now.key)
    if last is None:
        return Reason(now.step, "never ran", (), now.key)
    changes = _changes(last, now)
    details = tuple(detail for lines in changes.values() for detail in lines)
    why = next((why for why, lines in changes.items() if lines), None)
    if why is None and transient and finding.readers:
        return Reason(now.step, "needed again", tuple(f"by {r}" for r in finding.readers), now.key)
    return Reason(now.step, why or "removed", details, now.key)


def _changes(last: Fingerprint, now: Fingerprint) -> dict[Why, list[str]]:
    """What differs, by reason, a step's own changes first."""
    step = {"run": last.run, "version": last.version}, {"run": now.run, "version": now.version}
    return {
        "step version changed": _differences(*step),
        "tool version changed": _differences(last.tools, now.tools),
        "options changed": _differences(flatten(last.options), flatten(now.options)),
        "source changed": _differences(_flat(last.sources), _flat(now.sources)),
        "input changed": _differences(last.inputs, now.inputs, shorten=True),
    }


def _flat(sources: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """{"source": {"config.json": digest}} -> {"source/config.json": digest}"""
    return {
        f"{name}/{file}".rstrip("/"): value[:12]
        for name, files in sources.items()
        for file, value in files.items()
    }


def _differences(
    last: Mapping[str, Any], now: Mapping[str, Any], *, shorten: bool = False
) -> list[str]:
    return [
        f"{name}: {_shown(last, name, shorten)} -> {_shown(now, name, shorten)}"
        for name in sorted({*last, *now})
        if last.get(name, _ABSENT) != now.get(name, _ABSENT)
    ]


_ABSENT = object()


def _shown(values: Mapping[str, Any], name: str, shorten: bool) -> str:
    if name not in values:
        return "(none)"
    return str(values[name])[:12] if shorten else str(values[name])
