"""A plan: the steps that turn one source into one target's bundle, as a checked graph."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from modelc.errors import ModelcError, nearest
from modelc.pipeline.step import Step, plain


@dataclass(frozen=True)
class Plan:
    """Steps for one target, in an order in which each comes after its inputs.

    The order given is kept wherever the inputs allow.

    Attributes:
        taken: steps whose results the caller reads, besides those that no other step reads; a
            cached one is checked by SHA-256 before it is handed over.

    Raises:
        ModelcError: every problem of the steps at once (names, inputs, options, cycles).
    """

    target: str
    steps: tuple[Step, ...]
    taken: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problems = [problem for check in _CHECKS for problem in check(self.steps)]
        names = [step.name for step in self.steps]
        problems += [f"{name} is taken, but no step" for name in self.taken if name not in names]
        if problems:
            listed = "\n".join(f"  - {problem}" for problem in problems)
            raise ModelcError(f"the plan for {self.target} is not sound:\n{listed}")
        object.__setattr__(self, "steps", _ordered(self.steps))

    def results(self) -> frozenset[str]:
        """Names of the steps whose results the caller reads."""
        read = {name for step in self.steps for name in step.inputs}
        return frozenset(
            {*self.taken, *(step.name for step in self.steps if step.name not in read)}
        )

    def transient(self) -> tuple[str, ...]:
        """Names of the steps whose results go once their readers are done, in the plan's order."""
        kept = self.results()
        return tuple(step.name for step in self.steps if step.transient and step.name not in kept)

    def reads(self) -> tuple[str, ...]:
        """Names of all the files outside the store that the steps read, sorted."""
        return tuple(sorted({name for step in self.steps for name in step.reads}))


def _names(steps: tuple[Step, ...]) -> list[str]:
    counts = Counter(step.name for step in steps)
    return [f"{count} steps are named {name}" for name, count in counts.items() if count > 1]


def _inputs(steps: tuple[Step, ...]) -> list[str]:
    known = {step.name for step in steps}
    return [
        f"{step.name} reads {name}, which is no step; {nearest(name, known)}"
        for step in steps
        for name in step.inputs
        if name not in known
    ]


def _functions(steps: tuple[Step, ...]) -> list[str]:
    return [
        f"{step.name} runs {step.run!r}, which is not module:function"
        for step in steps
        if not all(step.run.partition(":"))
    ]


def _options(steps: tuple[Step, ...]) -> list[str]:
    problems = []
    for step in steps:
        try:
            plain(step.options)
        except (TypeError, ValueError) as error:
            problems.append(f"{step.name} has an option that is no plain value: {error}")
    return problems


def _cycles(steps: tuple[Step, ...]) -> list[str]:
    try:
        TopologicalSorter({step.name: step.inputs for step in steps}).prepare()
    except CycleError as error:
        return [f"steps read each other in a circle: {' <- '.join(error.args[1])}"]
    return []


_CHECKS = (_names, _inputs, _functions, _options, _cycles)


def _ordered(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Repeatedly take the first step whose inputs are all taken."""
    taken: dict[str, Step] = {}
    while len(taken) < len(steps):
        ready = next(
            step for step in steps if step.name not in taken and taken.keys() >= set(step.inputs)
        )
        taken[ready.name] = ready
    return tuple(taken.values())
