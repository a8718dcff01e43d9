"""Looks at which results of a plan are in the store, whole, missing or damaged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from modelc.errors import Damaged
from modelc.pipeline.fingerprint import Fingerprint
from modelc.pipeline.plan import Plan
from modelc.pipeline.store import Store

State = Literal["whole", "missing", "damaged"]


@dataclass(frozen=True)
class Finding:
    """What was found of one step's result.

    Attributes:
        readers: steps that have to run and will read it.
        read: something will read it: such a step, or whoever asked for the plan's end. Such a
            result is checked by SHA-256, others by their sizes.
        needed: it has to be there. A transient one need not unless it is read.
        detail: what is wrong with a damaged one.
    """

    state: State
    readers: tuple[str, ...]
    read: bool
    needed: bool
    detail: str = ""


def survey(
    plan: Plan, prints: Mapping[str, Fingerprint], store: Store, *, keep: bool = False
) -> dict[str, Finding]:
    """Return each step's finding by name, in the plan's order; changes nothing.

    Args:
        keep: transient results are needed like all others.
    """
    transient = frozenset() if keep else frozenset(plan.transient())
    results = plan.results()
    readers: dict[str, list[str]] = {step.name: [] for step in plan.steps}
    found: dict[str, Finding] = {}
    for step in reversed(plan.steps):  # whoever reads a result is looked at before it
        read = bool(readers[step.name]) or step.name in results
        state, detail = _look(store, prints[step.name].key, read)
        needed = read or step.name not in transient
        found[step.name] = Finding(state, tuple(reversed(readers[step.name])), read, needed, detail)
        if needed and state != "whole":
            for name in step.inputs:
                readers[name].append(step.name)
    return {step.name: found[step.name] for step in plan.steps}


def _look(store: Store, key: str, read: bool) -> tuple[State, str]:
    try:
        return ("whole" if store.find(key, contents=read) else "missing"), ""
    except Damaged as error:
        return "damaged", error.message
