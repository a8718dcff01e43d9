"""One case through compile, simulate, compare, as a network goes that a user compiles."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnx_ir as ir

from modelc.errors import BadInput, ModelcError
from modelc.frontends.onnx.network import read_network
from modelc.passes.base import run_passes
from modelc.passes.network.decompose_operators import written_out
from modelc.passes.network.taken import refusals
from modelc.passes.pipelines import build_pipeline
from modelc.reference.network import NetworkReference
from modelc.targets.snapdragon.chipsets import find_chipset
from modelc.targets.snapdragon.network.hints import hint_for
from onnx_nodes.cases import Case
from onnx_nodes.compare import compare, is_verified
from onnx_nodes.explain import explain
from onnx_nodes.forked import in_child
from onnx_nodes.outcome import Outcome, Verdict
from onnx_nodes.schemes import CHIPSET, TriedScheme
from onnx_nodes.simulated import TIMEOUT_S, Refusal, simulate

_NEWER: Final = ("is more than opset", "needs opset", "has unsupported type")
"""What the frontend says of operators, attributes and types that opset 23 doesn't have."""

_AS_CODED: Final = "the quantised graph is off on the CPU, too"


@dataclass(frozen=True)
class Lowered:
    """A case as HTP gets it.

    Attributes:
        canonical: what the frontend read; None if it refused.
        graph: None if it is refused, for `reason`.
        becomes, why, refused_as: as in `Outcome`.
    """

    canonical: ir.Model | None = None
    graph: ir.Model | None = None
    becomes: dict[str, list[str]] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    refused_as: str = ""
    reason: str = ""
    hint: str = ""


def try_case(case: Case, tried: TriedScheme, folder: Path, kept: Path) -> Outcome:
    """Return what becomes of a case; with constants in place of inputs, if it is refused so.

    Args:
        folder: an empty one, for what is written meanwhile.
        kept: the folder of earlier results of HTP.
    """
    if case.out:
        return Outcome(case.name, case.operator, "not in scope", reason=case.out)
    found = _apart(case, tried, folder / "given", kept)
    if not found.verdict.startswith("refused") or not case.can_be_fixed:
        return found
    again = _apart(case.fixed(), tried, folder / "fixed", kept)
    return replace(again, fixed=True, as_given=found.reason)


def lower(source: Path, quantised: bool) -> Lowered:
    """Return what the frontend and the passes make of an ONNX file, or why they refuse it."""
    try:
        canonical = read_network(source)
    except BadInput as error:
        return Lowered(reason=_told(error), hint=error.hint)
    model, _ = run_passes(canonical.clone(), build_pipeline("network", {}), graph="network")
    rows = written_out(model)
    becomes = {row.operator: list(row.operators) for row in rows}
    why = {row.operator: row.reason for row in rows}
    *passes, check = build_pipeline("htp-network", {})
    model, _ = run_passes(model, passes, graph="network")
    refused = refusals(model)
    if not refused:
        model, _ = run_passes(model, [check], graph="network")
        return Lowered(canonical, model, becomes, why)
    first = refused[0]
    hint = hint_for(first.operator, first.reason, find_chipset(CHIPSET), quantised=quantised)
    return Lowered(canonical, None, becomes, why, first.operator, first.reason, hint)


def _apart(case: Case, tried: TriedScheme, folder: Path, kept: Path) -> Outcome:
    """Return what becomes of a case, tried in a child: even the frontend may crash."""
    folder.mkdir(parents=True)
    source = folder / "source.onnx"
    onnx.save(case.proto, source)
    try:
        done = in_child(
            lambda: vars(_through(case, tried, source, kept)), folder / "case.log", 4 * TIMEOUT_S
        )
    except ModelcError as error:
        return Outcome(case.name, case.operator, "crashed", reason=error.message)
    return Outcome(**done)


def _through(case: Case, tried: TriedScheme, source: Path, kept: Path) -> Outcome:
    lowered = lower(source, tried.scheme.is_quantised)
    told = Outcome(case.name, case.operator, "passed", becomes=lowered.becomes, why=lowered.why)
    if lowered.canonical is None or lowered.graph is None:
        if any(sign in lowered.reason for sign in _NEWER):
            return replace(told, verdict="not in scope", reason="newer than opset 23")
        return replace(
            told,
            verdict="refused",
            refused_as=lowered.refused_as,
            reason=lowered.reason,
            hint=lowered.hint,
        )
    if not _reads_inputs(lowered.graph.graph):
        outputs = NetworkReference(lowered.graph).run(case.inputs)
        return _compared(replace(told, verdict="folded"), lowered, case, tried, outputs)
    try:
        coded = tried.coded(lowered.graph.clone(), case.inputs)
    except ModelcError as error:
        return replace(told, verdict="refused", reason=_told(error), hint=error.hint)
    try:
        found = simulate(coded, case.inputs, tried.options, source.parent, kept)
    except ModelcError as error:
        return replace(told, verdict="crashed", reason=_told(error), hint=error.hint)
    if isinstance(found, Refusal):
        return replace(
            told,
            verdict="refused by the provider",
            refused_as=found.operator,
            reason=found.reason,
            hint=found.hint,
        )
    return _compared(told, lowered, case, tried, found, coded)


def _reads_inputs(graph: ir.Graph) -> bool:
    """Whether anything is computed of the inputs, and so is left for HTP."""
    return any(value.is_graph_input() for node in graph for value in node.inputs if value)


def _compared(
    told: Outcome,
    lowered: Lowered,
    case: Case,
    tried: TriedScheme,
    outputs: dict[str, np.ndarray],
    coded: ir.Model | None = None,
) -> Outcome:
    """Return an outcome with its verdict.

    Args:
        coded: the graph that gave the outputs, in the scheme's codes.
    """
    assert lowered.canonical is not None and lowered.graph is not None
    found = compare(case.expected, outputs, tried.tolerance)
    told = replace(told, sqnr_db=found.sqnr_db, error=found.error)
    if not found.difference:
        return told
    reference = NetworkReference(lowered.canonical).run(case.inputs)
    if not compare(reference, outputs, tried.tolerance).difference:
        return replace(told, verdict="as the CPU", reason=found.difference)
    reason = found.difference
    if not tried.scheme.is_quantised:
        why = explain(lowered.graph, case.inputs, case.expected, outputs, tried.tolerance)
        reason = f"{reason}; {why}" if why else reason
    verified = is_verified(reference, outputs, tried.scheme)
    if tried.scheme.is_quantised and coded is not None:
        on_cpu = NetworkReference(coded).run(case.inputs)
        if found.error <= 2 * compare(case.expected, on_cpu, tried.tolerance).error:
            how: Verdict = "coarse" if verified else "caught"
            return replace(told, verdict=how, reason=f"{reason}; {_AS_CODED}")
    return replace(told, verdict="wrong" if verified else "caught", reason=reason)


def _told(error: ModelcError) -> str:
    return error.message.splitlines()[0]
