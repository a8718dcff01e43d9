"""The page of operators, in Markdown."""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from onnx_nodes.outcome import VERDICTS, Outcome, Verdict
from onnx_nodes.schemes import CHIPSET, SCHEMES

_PACKAGES: Final = ("onnx", "onnxruntime", "onnxruntime-qnn", "modelc")
_REFUSED: Final = ("refused", "refused by the provider")
_SHOWN: Final = 4

_MEANINGS: Final[dict[Verdict, str]] = {
    "passed": "compiled, simulated, and the numbers are those that the test expects",
    "folded": "the passes computed it all, and rightly; nothing is left for HTP",
    "refused": "by a pass or while the file was read, with a reason and what to do",
    "refused by the provider": "when HTP's compiler was asked, with a reason and what to do",
    "caught": "other numbers than expected; the verification that ends a compile fails",
    "as the CPU": "other numbers than expected, but those of ONNX Runtime's CPU, the reference",
    "coarse": "other numbers than expected, but the quantised graph is as far off on the CPU: the "
    "scheme's codes are too coarse",
    "wrong": "other numbers than expected, and than the CPU's, and the verification passes",
    "crashed": "the compiler or the simulator; the compile ends with an error",
    "not in scope": "no static float32 model has it",
}


Found = Mapping[str, Sequence[Outcome]]
"""Outcomes of the same cases by the name of the scheme; the first of `SCHEMES` is told whole."""

_FIRST, *_OTHERS = SCHEMES


def page(found: Found) -> str:
    """Return the page; the same outcomes and versions give the same text."""
    first = found[_FIRST.name]
    parts = [_INTRODUCTION, _summary(found), _operators(found), _refused(first)]
    parts += [_differing(tried.name, found[tried.name]) for tried in SCHEMES]
    parts.append(_out(first))
    return "\n".join(part for part in parts if part)


_INTRODUCTION: Final = f"""# Operators of networks on HTP

<!-- Written by scripts/onnx_nodes.py; changes belong there. -->

Each test of single operators that the `onnx` package carries goes the way of a network that is
compiled: read, optimised, lowered, compiled for `{CHIPSET}`, run in HTP's simulator on the test's
inputs, and compared with the numbers that the test expects: in half precision, where a number may
be off by {_FIRST.tolerance:g} of the largest of its output, and {
    ", ".join(f"as `{tried.name}`, by {tried.tolerance:g}" for tried in _OTHERS)
}, calibrated on the test's own
inputs. NaN and infinities have to be where they are expected, integers and bools have to be equal.

Inputs stay inputs. A test that is refused so is tried again with all inputs but the first as
constants, as sizes, axes and weights are in models: the column *constants* counts those that need
it.
"""


def _summary(found: Found) -> str:
    counts = {name: Counter(o.verdict for o in outcomes) for name, outcomes in found.items()}
    rows = [
        [verdict, *(str(of[verdict]) for of in counts.values()), _MEANINGS[verdict]]
        for verdict in VERDICTS
    ]
    written = [
        str(sum(bool(o.becomes) for o in outcomes if o.verdict == "passed"))
        for outcomes in found.values()
    ]
    rows.insert(1, ["of these as others", *written, "HTP gets other operators in its place"])
    versions = [[name, importlib.metadata.version(name)] for name in _PACKAGES]
    return "\n".join(
        (
            "## Summary\n",
            _table(["result", *found, "meaning"], rows),
            _table(["package", "version"], versions),
        )
    )


def _operators(found: Found) -> str:
    others = [_by_operator(found[tried.name]) for tried in _OTHERS]
    rows = []
    for operator, group in _by_operator(found[_FIRST.name]).items():
        passed = _passed(group)
        rows.append(
            [
                operator,
                *_numbers(
                    len(group),
                    sum(not outcome.becomes for outcome in passed),
                    sum(bool(outcome.becomes) for outcome in passed),
                    sum(outcome.fixed for outcome in passed),
                    _count_refused(group),
                    _count_differing(group),
                ),
                _least(passed),
                *(cell for other in others for cell in _cells(other.get(operator, []))),
                _becomes(operator, passed),
            ]
        )
    heads = [f"{tried.name}{what}" for tried in _OTHERS for what in ("", " differs", " least dB")]
    head = ["operator", "tests", "as it is", "as others", "constants", "refused", "differs",
            "least dB", *heads, "becomes"]  # fmt: skip
    return "\n".join(
        (
            "## By operator\n",
            "*As others*: HTP gets what *becomes* says. *Differs*: the numbers are other ones; "
            "listed below. *Least dB*: the worst ratio of signal to noise of those that passed; "
            "none where all is equal, or integers. Tests of an operator that is written out by its "
            "definition (`..._expanded`) count as the operator's.\n",
            _table(head, rows),
        )
    )


def _by_operator(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    return dict(_grouped(_in_scope(outcomes), lambda outcome: outcome.operator))


def _passed(group: Iterable[Outcome]) -> list[Outcome]:
    return [outcome for outcome in group if outcome.verdict in ("passed", "folded")]


def _count_refused(group: Iterable[Outcome]) -> int:
    return sum(outcome.verdict in _REFUSED for outcome in group)


def _count_differing(group: Sequence[Outcome]) -> int:
    return len(group) - len(_passed(group)) - _count_refused(group)


def _least(passed: Iterable[Outcome]) -> str:
    decibels = [outcome.sqnr_db for outcome in passed if outcome.sqnr_db is not None]
    return f"{min(decibels):.0f}" if decibels else ""


def _cells(group: Sequence[Outcome]) -> list[str]:
    """Return a scheme's cells of one operator: right, differing, the least decibels."""
    passed = _passed(group)
    return [*_numbers(len(passed), _count_differing(group)), _least(passed)]


def _becomes(operator: str, passed: Iterable[Outcome]) -> str:
    """Return what an operator itself is written out as, over all of its tests, and why."""
    into: dict[str, None] = {}
    why = ""
    for outcome in passed:
        into.update(dict.fromkeys(outcome.becomes.get(operator, ())))
        why = why or outcome.why.get(operator, "")
    return f"{', '.join(sorted(into))} ({why})" if into else ""


def _refused(outcomes: Sequence[Outcome]) -> str:
    refused = [outcome for outcome in outcomes if outcome.verdict in _REFUSED]
    rows = []
    for (operator, reason, hint), group in _grouped(
        refused, lambda outcome: (_named(outcome), outcome.reason, outcome.hint)
    ):
        rows.append([operator, str(len(group)), reason, hint, _cases(group)])
    head = ["operator", "tests", "reason", "what to do", "which"]
    return "## Refused\n\n" + _table(head, rows) if rows else ""


def _named(outcome: Outcome) -> str:
    if outcome.refused_as in ("", outcome.operator):
        return outcome.operator
    return f"{outcome.operator}, as {outcome.refused_as}"


def _differing(scheme: str, outcomes: Sequence[Outcome]) -> str:
    parts = []
    titles: dict[Verdict, str] = {
        "caught": f"Caught by verification ({scheme})",
        "as the CPU": f"Other numbers on ONNX Runtime's CPU as well ({scheme})",
        "coarse": f"What the codes are too coarse for ({scheme})",
        "wrong": f"Wrong, and not caught ({scheme})",
        "crashed": f"Crashed ({scheme})",
    }
    for verdict, title in titles.items():
        rows = [
            [
                outcome.operator,
                outcome.case,
                "" if outcome.error is None else f"{outcome.error:.2g}",
                "" if outcome.sqnr_db is None else f"{outcome.sqnr_db:.1f}",
                outcome.reason,
            ]
            for outcome in sorted(outcomes, key=lambda outcome: (outcome.operator, outcome.case))
            if outcome.verdict == verdict
        ]
        if rows:
            head = ["operator", "test", "off by", "dB", "what and why"]
            parts.append(f"## {title}\n\n{_table(head, rows)}")
    return "\n".join(parts)


def _out(outcomes: Sequence[Outcome]) -> str:
    out = [outcome for outcome in outcomes if outcome.verdict == "not in scope"]
    rows = [[reason, str(len(group))] for reason, group in _grouped(out, lambda o: o.reason)]
    return "## Not in scope\n\n" + _table(["what it has", "tests"], rows) if rows else ""


def _in_scope(outcomes: Iterable[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.verdict != "not in scope"]


def _grouped(
    outcomes: Iterable[Outcome], key: Callable[[Outcome], Any]
) -> list[tuple[Any, list[Outcome]]]:
    ordered = sorted(outcomes, key=lambda outcome: (key(outcome), outcome.case))
    return [(value, list(group)) for value, group in groupby(ordered, key)]


def _cases(group: Sequence[Outcome]) -> str:
    names = [f"`{outcome.case}`" for outcome in group]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _numbers(*numbers: int) -> list[str]:
    return [str(number) if number else "" for number in numbers]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
