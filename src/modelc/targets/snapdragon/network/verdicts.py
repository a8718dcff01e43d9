"""Whether HTP takes a node of a network."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from modelc.errors import Damaged
from modelc.ir.provenance import MODULE
from modelc.targets.snapdragon.chipsets import Chipset
from modelc.targets.snapdragon.network.hints import hint_for
from modelc.targets.snapdragon.network.places import STRANDED
from modelc.targets.snapdragon.network.provider_log import Judgement
from modelc.targets.snapdragon.network.source_names import SourceNames

Verdict = Literal["taken", "refused", "stranded"]
_WORST_FIRST: Final[tuple[Verdict, ...]] = ("refused", "stranded", "taken")
MERGED: Final = "ONNX Runtime folds it into a constant or its neighbours"


@dataclass(frozen=True)
class OperatorVerdict:
    """What becomes of a node.

    Attributes:
        verdict: "taken" by HTP, "refused", or "stranded": a conversion that HTP leaves to the CPU
            because its neighbours are refused.
        reason: the provider's, for what is not taken; for a node that the provider never sees,
            what became of it.
        hint: what to do, "" for what is taken.
    """

    node: str
    op_type: str
    module: str
    verdict: Verdict
    reason: str
    hint: str


@dataclass(frozen=True)
class Judged:
    """What becomes of a network's nodes.

    Attributes:
        nodes: verdict and reason of each node.
        others: operator and reason of what ONNX Runtime put in and HTP refuses, by its name, where
            it can't be told which node it was put in for.
    """

    nodes: Mapping[str, tuple[Verdict, str]]
    others: Mapping[str, tuple[str, str]]


def judge(
    nodes: Collection[str],
    judged: Mapping[str, Judgement],
    on_cpu: Collection[str],
    names: SourceNames,
) -> Judged:
    """Return what becomes of the model's nodes.

    Args:
        judged: by names of the provider's graph.
        on_cpu: the provider's nodes that the CPU got.
    """
    found: dict[str, tuple[Verdict, str]] = {}
    others: dict[str, tuple[str, str]] = {}
    for name, judgement in judged.items():
        verdict: tuple[Verdict, str] = ("taken", "")
        if judgement.victim:
            verdict = ("stranded", STRANDED)
        elif not judgement.taken:
            verdict = ("refused", judgement.reason)
        elif name in on_cpu:
            verdict = ("stranded", STRANDED)
        sources = names.of(name)
        if not sources and verdict[0] == "refused":
            others[name] = (judgement.op_type, judgement.reason)
        for source in sources:
            # A node that was put in is no better a witness than the node itself.
            if source not in found or _rank(verdict) < _rank(found[source]):
                found[source] = verdict
    return Judged({name: found.get(name, ("taken", MERGED)) for name in nodes}, others)


def read_judged(document: Any, nodes: Collection[str]) -> Judged:
    """Return what `judge` made of these nodes, from the JSON form of its fields.

    Raises:
        Damaged: it is something else.
    """
    if isinstance(document, dict) and document.keys() == {"nodes", "others"}:
        judged, others = document["nodes"], document["others"]
        if (
            _pairs(judged)
            and _pairs(others)
            and judged.keys() == set(nodes)
            and all(row[0] in _WORST_FIRST for row in judged.values())
        ):
            return Judged(
                {name: (row[0], row[1]) for name, row in judged.items()},
                {name: (row[0], row[1]) for name, row in others.items()},
            )
    raise Damaged("not a record of verdicts on this network")


def verdicts_of(proto: Any, chipset: Chipset, found: Judged) -> tuple[OperatorVerdict, ...]:
    """Return the verdict on each node of a model (a ModelProto), in its order, and after them on
    what ONNX Runtime put in by itself and HTP refuses."""
    return tuple(_verdicts(proto, chipset, found))


def _verdicts(proto: Any, chipset: Chipset, found: Judged) -> Iterator[OperatorVerdict]:
    nodes = proto.graph.node
    quantised = any(node.op_type == "QuantizeLinear" for node in nodes)
    for node in nodes:
        verdict, reason = found.nodes[node.name]
        module = {entry.key: entry.value for entry in node.metadata_props}.get(MODULE, "")
        hint = ""
        if verdict == "refused":
            hint = hint_for(node.op_type, reason, chipset, quantised=quantised)
        elif verdict == "stranded":
            hint = "see to the refused operators beside it"
        yield OperatorVerdict(node.name, node.op_type, module, verdict, reason, hint)
    for name, (op_type, reason) in found.others.items():
        hint = hint_for(op_type, reason, chipset, quantised=quantised)
        yield OperatorVerdict(name, op_type, "", "refused", reason, hint)


def _pairs(rows: Any) -> bool:
    return isinstance(rows, dict) and all(
        isinstance(row, list) and len(row) == 2 and all(isinstance(text, str) for text in row)
        for row in rows.values()
    )


def _rank(verdict: tuple[Verdict, str]) -> int:
    return _WORST_FIRST.index(verdict[0])
