"""What the provider's log says about each node: whether it takes it, and why not.

The provider looks at the graph twice: as it is, and once more after what HTP wants channels-last
was turned. The second look counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

_JUDGED = re.compile(r"Validation (PASSED|FAILED) for \d+ nodes in \w+ \((\w+)\)")
_NODE = re.compile(r"^\tOperator type: (\S+) Node name: (.*) Node index: \d+$")
_REASON = re.compile(r"^\tREASON : (.*)$")
_BACKEND = re.compile(
    r"QNN\.backendValidateOpConfig\(\) failed for node `(.*?)` of type `(\w+)` with error "
    r"code (\d+)"
)
_UNSUPPORTED = re.compile(r"Unsupported nodes in QNN EP: (.*)")
_LISTED = re.compile(r"\{ name: (.*?), type: (\w+) \}")
_TURNED = re.compile(r"Node '(.*?)' OpType:(\w+) with domain:com\.ms\.internal\.nhwc was inserted")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
CONVERSIONS: Final = frozenset({"DequantizeLinear", "QuantizeLinear"})
_UNTOLD: Final = "Failed to add node."
_CODES: Final = {
    "3110": "its types, sizes or parameters are not what HTP takes there",
    "6007": "HTP knows no such operator",
}


@dataclass(frozen=True)
class Judgement:
    """What the provider thinks of a node of its graph.

    Attributes:
        reason: why it is refused, "" if it is taken.
        victim: it is a conversion that is refused only with the operator that it belongs to.
    """

    op_type: str
    taken: bool
    reason: str
    victim: bool = False


def read_judgements(log: str) -> dict[str, Judgement]:
    """Return the last judgement on each node by its name in the provider's graph.

    The log must have been written with all of its messages.
    """
    judged: dict[str, Judgement] = {}
    for taken, core, nodes, reason in _units(log):
        for name, op_type in nodes.items():
            victim = not taken and op_type in CONVERSIONS and core not in CONVERSIONS
            judged[name] = Judgement(op_type, taken, reason, victim)
    return judged


def read_refused(log: str) -> dict[str, Judgement]:
    """Return the nodes that the provider refused where all had to be taken, by their names.

    A log with warnings is enough. Conversions that stand alone once what is between them is refused
    are left out, unless there is nothing else.
    """
    lists = _UNSUPPORTED.findall(_COLOUR.sub("", log))
    nodes = dict(_LISTED.findall(lists[-1])) if lists else {}
    said = dict(map(_said, _BACKEND.findall(log)))
    culprits = {name: op for name, op in nodes.items() if op not in CONVERSIONS}
    return {
        name: Judgement(op, False, said.get(name, "")) for name, op in (culprits or nodes).items()
    }


def read_turned(message: str) -> tuple[str, str] | None:
    """Return name and operator of a node that ONNX Runtime turned channels-last for HTP, which then
    refused it, from ONNX Runtime's error. The CPU can't run it so; there is no way back from it."""
    found = _TURNED.search(message)
    return (found.group(1), found.group(2)) if found else None


def _units(log: str) -> Iterator[tuple[bool, str, Mapping[str, str], str]]:
    """Yield each group of nodes that is judged together: whether it is taken, the operator that it
    is about, all operators by name, and the reason."""
    backend = ""
    lines = iter(_COLOUR.sub("", log).splitlines())
    for line in lines:
        if told := _BACKEND.search(line):
            backend = _said(told.groups())[1]
        if not (judged := _JUDGED.search(line)):
            continue
        nodes, reason = dict[str, str](), ""
        for row in lines:
            if node := _NODE.match(row):
                nodes[node.group(2)] = node.group(1)
            elif given := _REASON.match(row):
                reason = given.group(1).strip()
            elif not row.strip():
                break
        if reason == _UNTOLD:
            reason = backend or reason
        backend = ""
        yield judged.group(1) == "PASSED", judged.group(2), nodes, reason


def _said(told: tuple[str, ...]) -> tuple[str, str]:
    """Return node and reason of what HTP itself refused."""
    name, kind, code = told
    return name, f"HTP refuses {kind}: {_CODES.get(code, f'error {code}')}"
