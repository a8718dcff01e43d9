"""Looks at which results of a plan are in the store, whole, missing or damaged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from modelc.errors import Damaged
from modelc.pipeline.fingerprint import Fingerprint
from modelc.pipeline.plan import Plan
from modelc.pipeline.store import Store


@dataclass(frozen=True)
class Finding:
    """What was found of one step's result.

    Attributes:
        read: something will read it: a step that has to run, or whoever asked for the plan's end.
            Such a result is checked by SHA-256, others by their sizes.
        detail: what is wrong with a damaged one.
    """

    state: Literal["whole", "missing", "damaged"]
    read: bool
    detail: str = ""


def survey(plan: Plan, prints: Mapping[str, Fingerprint], store: Store) -> dict[str, Finding]:
    """Return each step's finding by name; changes nothing."""
    read = set(plan.results())
    found: dict[str, Finding] = {}
    for step in reversed(plan.steps):  # whoever reads a result is looked at before it
        finding = _look(store, prints[step.name].key, step.name in read)
        found[step.name] = finding
        if finding.state != "whole":
            read.update(step.inputs)
    return {step.name: found[step.name] for step in plan.steps}


def _look(store: Store, key: str, read: bool) -> Finding:
    try:
        entry = store.find(key, contents=read)
    except Damaged as error:
        return Finding("damaged", read, error.message)
    return Finding("whole" if entry else "missing", read)
