"""One case through compile, simulate, compare, as a network goes that a user compiles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from unittest import mock

import onnx
import onnx_ir as ir

from modelc.errors import BadInput, ModelcError, ToolFailed
from modelc.frontends.onnx.network import read_network
from modelc.ir.write import write_model
from modelc.passes.base import run_passes
from modelc.passes.network.decompose_operators import written_out
from modelc.passes.network.taken import refusals
from modelc.passes.pipelines import build_pipeline
from modelc.reference.network import NetworkReference
from modelc.targets.snapdragon.chipsets import find_chipset
from modelc.targets.snapdragon.compile import CompileOptions
from modelc.targets.snapdragon.network.compile import compile_network
from modelc.targets.snapdragon.network.hints import hint_for
from modelc.targets.snapdragon.network.options import NetworkOptions
from modelc.targets.snapdragon.network.run import run_network
from onnx_nodes.cases import Arrays, Case
from onnx_nodes.compare import compare
from onnx_nodes.explain import explain
from onnx_nodes.forked import in_child, run_forked
from onnx_nodes.outcome import Outcome

CHIPSET: Final = "snapdragon-8-elite"
TIMEOUT_S: Final = 120.0
_NEWER: Final = "is more than opset"
_REFUSED: Final = ("HTP does not take", "HTP refuses", "HTP leaves")


@dataclass(frozen=True)
class Lowered:
    """A case as HTP gets it.

    Attributes:
        canonical: what the frontend read; None if it refused.
        graph: None if it is refused, for `reason`.
        becomes, why: as in `Outcome`.
    """

    canonical: ir.Model | None = None
    graph: ir.Model | None = None
    becomes: dict[str, list[str]] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    hint: str = ""


def try_case(case: Case, folder: Path) -> Outcome:
    """Return what becomes of a case; with constants in place of inputs, if it is refused so."""
    if case.out:
        return Outcome(case.name, case.operator, "not in scope", reason=case.out)
    found = _apart(case, folder / "given")
    if not found.verdict.startswith("refused") or len(case.inputs) < 2:
        return found
    again = _apart(case.fixed(), folder / "fixed")
    if again.verdict.startswith(("refused", "not")):
        return found
    return replace(again, fixed=True, as_given=found.reason)


def lower(source: Path) -> Lowered:
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
    chipset = find_chipset(CHIPSET)
    hint = hint_for(first.operator, first.reason, chipset, quantised=False)
    return Lowered(canonical, None, becomes, why, first.reason, hint)


def simulate(model: ir.Model, inputs: Arrays, folder: Path) -> Arrays:
    """Compile a lowered graph in half precision, and return what the simulator gives."""
    graph = folder / "network.onnx"
    write_model(model, graph)
    made = compile_network(
        graph,
        "network",
        find_chipset(CHIPSET),
        NetworkOptions(CompileOptions(fp16=True)),
        folder / "network.bin",
        workdir=folder / "compile",
        timeout_s=TIMEOUT_S,
    )
    taken = {str(value.name): inputs[str(value.name)] for value in model.graph.inputs}
    return run_network(made.wrapper, [taken], workdir=folder / "run", timeout_s=TIMEOUT_S)[0]


def _apart(case: Case, folder: Path) -> Outcome:
    """Return what becomes of a case, tried in a child: even the frontend may crash."""
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "source.onnx"
    onnx.save(case.proto, source)
    try:
        done = in_child(
            lambda: _through(case, source).to_json(), folder / "case.log", 4 * TIMEOUT_S
        )
    except ModelcError as error:
        return Outcome(case.name, case.operator, "crashed", reason=_told(error))
    return Outcome(**done)


def _through(case: Case, source: Path) -> Outcome:
    lowered = lower(source)
    told = Outcome(case.name, case.operator, "passed", becomes=lowered.becomes, why=lowered.why)
    if lowered.canonical is None or lowered.graph is None:
        if _NEWER in lowered.reason:
            return replace(told, verdict="not in scope", reason="newer than opset 23")
        return replace(told, verdict="refused", reason=lowered.reason, hint=lowered.hint)
    folded = not lowered.graph.graph.num_nodes() or not lowered.graph.graph.inputs
    try:
        if folded:
            outputs = dict(NetworkReference(lowered.graph).run(case.inputs))
        else:
            with _forked():
                outputs = simulate(lowered.graph, case.inputs, source.parent)
    except ToolFailed as error:
        refused = error.message.startswith(_REFUSED)
        verdict: Any = "refused by the provider" if refused else "crashed"
        return replace(told, verdict=verdict, reason=_told(error), hint=error.hint)
    found = compare(case.expected, outputs)
    told = replace(
        told,
        verdict="folded" if folded else "passed",
        sqnr_db=found.sqnr_db,
        error=found.error,
    )
    if not found.difference:
        return told
    why = explain(lowered.canonical, lowered.graph, case.inputs, case.expected, outputs)
    reason = f"{found.difference}; {why}" if why else found.difference
    return replace(told, verdict="wrong" if found.verified else "caught", reason=reason)


@contextmanager
def _forked() -> Iterator[None]:
    place = "modelc.targets.snapdragon.network"
    with (
        mock.patch(f"{place}.compile.run_worker", run_forked),
        mock.patch(f"{place}.run.run_worker", run_forked),
    ):
        yield


def _told(error: ModelcError) -> str:
    return error.message.splitlines()[0]
