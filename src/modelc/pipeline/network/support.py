"""What becomes of each operator of a network on a chipset, known before it is compiled."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from modelc.errors import BadInput
from modelc.ir.provenance import module_of
from modelc.passes.network.decompose_operators import written_out
from modelc.passes.network.tail import TailNode, cut_tail
from modelc.passes.network.taken import refusals
from modelc.passes.pipelines import build_pipeline
from modelc.pipeline.events import Events, ignore
from modelc.pipeline.execute import execute
from modelc.pipeline.network.job import make_network_job
from modelc.pipeline.network.plan import probing_plan
from modelc.pipeline.network.steps import GRAPH, load_network
from modelc.pipeline.network.steps_htp import OPERATORS
from modelc.pipeline.recipe import Recipe
from modelc.pipeline.store import Store

if TYPE_CHECKING:
    import onnx_ir as ir

Becomes = Literal["taken", "decomposed", "fused", "folded", "refused"]

_CONVERSIONS: Final = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class OperatorSupport:
    """One node of the model.

    Attributes:
        becomes: "taken" as it is, "decomposed" into others, "fused" with its neighbours, "folded"
            into a constant or left out as it does nothing; or "refused".
        into: the operators that it is compiled as, where it is not itself.
        reason: why it is refused, or written as others.
        hint: what to do then.
    """

    node: str
    op_type: str
    module: str
    becomes: Becomes
    into: tuple[str, ...] = ()
    reason: str = ""
    hint: str = ""


def operator_support(
    source: Path, recipe: Recipe, store: Store | None = None, events: Events = ignore
) -> list[OperatorSupport]:
    """Return what becomes of each node of a network on the recipe's (first) chipset.

    The provider is asked about the graph that would be compiled: lowered, and quantised if the
    recipe says so, or if the chipset runs no floats; then made-up samples do if there is no data.

    Raises:
        BadInput: as `make_network_job`, or the target is no chipset.
    """
    recipe = _probing(recipe)
    job = make_network_job(source, recipe)
    if job.target.chipset is None:
        raise BadInput(
            "only chipsets can be asked about their operators",
            hint="give a chipset, such as --target snapdragon-8gen3",
        )
    plan = probing_plan(job)
    probe = plan.steps[-1].name
    store = store or Store()
    with store.in_use():
        results = execute(plan, store, job.sources, events)
        folders = {result.name: result.path for result in results if result.entry}
        verdicts = json.loads((folders[probe] / OPERATORS).read_text())
        before, after = (load_network(folders[name] / GRAPH) for name in ("canonical", "lower"))
        refused = {row.name: row.reason for row in refusals(after)}
        cut = cut_tail(before)
        tail = {row.name: _of_tail(row) for row in cut.nodes} if cut else {}
        reasons = _reasons(cut.head if cut else before)
        return list(_joined(before, after, verdicts, refused, reasons, tail))


def document(rows: list[OperatorSupport]) -> list[dict[str, Any]]:
    """Return the JSON form that scripts rely on."""
    return [{**asdict(row), "into": list(row.into)} for row in rows]


def _probing(recipe: Recipe) -> Recipe:
    from modelc.targets.find import find_target

    target = find_target(recipe.target.split(",")[0].strip())
    changes: dict[str, Any] = {"target": target.name}
    network: dict[str, Any] = {"allow_cpu_fallback": True}
    if recipe.quant is None and target.chipset is not None and not target.chipset.fp16:
        changes["quant"] = "w8a16"
    if recipe.calibration.data is None:
        network["random_feeds"] = recipe.network.random_feeds or 1
    changes["network"] = recipe.network.model_copy(update=network)
    return recipe.model_copy(update=changes)


def _reasons(before: ir.Model) -> dict[str, str]:
    """Return why nodes are written as others, by name."""
    from modelc.passes.base import run_passes

    optimised, _ = run_passes(before.clone(), build_pipeline("network", {}), graph="network")
    return {row.name: row.reason for row in written_out(optimised)}


def _joined(
    before: ir.Model,
    after: ir.Model,
    verdicts: list[dict[str, Any]],
    refused: Mapping[str, str],
    reasons: Mapping[str, str],
    tail: Mapping[str, OperatorSupport],
) -> list[OperatorSupport]:
    """Join the model's nodes with what the passes and the provider say of those that they
    became.

    Args:
        refused, reasons: why nodes are refused, and written as others.
        tail: rows of nodes that are not compiled, as sizes depend on data.
    """
    said = {row["node"]: row for row in verdicts if row["op_type"] not in _CONVERSIONS}
    kept = {str(node.name): node for node in after.graph}
    names = {str(node.name) for node in before.graph}
    made: dict[str, list[ir.Node]] = defaultdict(list)
    sharing: dict[str, int] = defaultdict(int)
    for node in before.graph:
        sharing[module_of(node)] += 1
    for node in after.graph:
        if str(node.name) not in names or _changed(node, before):
            for module in module_of(node).split("+"):
                made[module].append(node)
    for name, reason in refused.items():
        hint = f"leave it out of the model, or to the CPU (--allow-cpu-fallback): {reason}"
        said[name] = {"hint": hint, **said.get(name, {}), "verdict": "refused", "reason": reason}
    rows = []
    for node in before.graph:
        name, module = str(node.name), module_of(node)
        now = kept.get(name)
        if name in tail:
            rows.append(tail[name])
        elif now is not None and now.op_type == node.op_type:
            rows.append(_row(node, "taken", (now,), said))
        elif found := made.get(module):
            merged = any("+" in module_of(new) for new in found) or len(found) < sharing[module]
            made_of = _row(node, "fused" if merged else "decomposed", tuple(found), said)
            why = made_of.reason or reasons.get(name, "")
            rows.append(replace(made_of, reason=why))
        else:
            rows.append(_row(node, "folded", (), said))
    return rows


def _of_tail(node: TailNode) -> OperatorSupport:
    hint = "end the model before what has such sizes, or leave that to the CPU: "
    hint += "--allow-cpu-fallback"
    return OperatorSupport(
        node.name, node.op_type, node.module, "refused", reason=node.why, hint=hint
    )


def _changed(node: ir.Node, before: ir.Model) -> bool:
    return all(str(old.name) != node.name or old.op_type != node.op_type for old in before.graph)


def _row(
    node: ir.Node, becomes: Becomes, found: tuple[ir.Node, ...], said: dict[str, dict[str, Any]]
) -> OperatorSupport:
    into = tuple(dict.fromkeys(new.op_type for new in found)) if becomes != "taken" else ()
    told = [said[str(new.name)] for new in found if str(new.name) in said]
    refused = next((row for row in told if row["verdict"] == "refused"), None)
    common = (str(node.name), node.op_type, module_of(node))
    if refused is not None:
        return OperatorSupport(*common, "refused", into, refused["reason"], refused["hint"])
    return OperatorSupport(*common, becomes, into)
