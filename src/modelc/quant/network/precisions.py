"""Which precision every node of a network is to have: the scheme's, unless an override says another
or its results are too much for 8 bits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, Final

import onnx_ir as ir

from modelc.errors import BadInput, Where, nearest
from modelc.ir.network_encodings import BITS, Precision, is_float
from modelc.ir.operands import linear_of
from modelc.ir.provenance import module_of
from modelc.quant.network.calibrate import NetworkStatistics
from modelc.quant.network.schemes import NetworkScheme, check_precision
from modelc.quant.network.sensitive import widen_sensitive, wider

OPERATOR: Final = "op:"
"""What begins a pattern of operator types."""

ONLY_16: Final = frozenset({"CumSum"})
"""What HTP computes wrongly in 8 bits, and says nothing: its sums come out unlike any."""


ONLY_FLOAT: Final = frozenset({"GRU"})
"""What crashes HTP's compiler if it is quantised."""


@dataclass(frozen=True)
class Assignment:
    """What is wanted of each node.

    Attributes:
        nodes: by name, all that read or make floats.
        widened: names of those that got 16 bits for their results' sake.
    """

    nodes: Mapping[str, Precision]
    widened: tuple[str, ...]

    @property
    def needs_fp16(self) -> bool:
        """Whether some nodes stay float, which takes a chipset with fp16."""
        return any(row.activations == "float" for row in self.nodes.values())


def assign_precisions(
    model: ir.Model,
    scheme: NetworkScheme,
    seen: NetworkStatistics,
    overrides: Mapping[str, str] = MappingProxyType({}),
) -> Assignment:
    """Return the precision of every node that reads or makes floats.

    Args:
        overrides: pattern -> precision, which go before the scheme's `sensitive_db`. A pattern is a
            module path, for all that lies in it as well, in which `*` stands for anything; or `op:`
            and an operator type. A precision is `float`, or `w4`, `w8`, `a8`, `a16` or two of these
            together (`w4a16`); what it doesn't say is the scheme's. Of several that match a node
            the last one counts.

    Raises:
        BadInput: a pattern matches no node, a precision is none, or codes are wanted of a node that
            HTP can't have in codes.
    """
    if overrides and not scheme.is_quantised:
        raise BadInput(
            f"the scheme {scheme.name} has no precisions to override",
            hint="choose a quantised scheme, such as w8a16",
        )
    graph = model.graph
    floats = [n for n in graph if any(is_float(v) for v in (*n.inputs, *n.outputs))]
    nodes = {str(node.name): scheme.precision for node in floats}
    chosen: set[str] = set()
    for pattern, text in overrides.items():
        matching = [node for node in floats if _matches(pattern, node)]
        if not matching:
            raise _lost(pattern, floats)
        precision = parse_precision(text, scheme.precision)
        for node in matching:
            if _has_say(text, node):
                nodes[str(node.name)] = precision
                chosen.add(str(node.name))
    for node in floats:
        if node.op_type in ONLY_FLOAT and nodes[str(node.name)].activations != "float":
            raise BadInput(
                f"{node.op_type} can't be quantised: HTP's compiler crashes",
                where=Where(module=module_of(node)),
                hint=f"--override 'op:{node.op_type}=float' leaves it in half precision, where the "
                "chipset has that",
            )
    free = {name: row for name, row in nodes.items() if name not in chosen}
    widened = {
        str(node.name): wider(nodes[str(node.name)])
        for node in floats
        if node.op_type in ONLY_16 and BITS[nodes[str(node.name)].activations] == 8
    }
    if scheme.sensitive_db:
        widened |= widen_sensitive(model, free, seen, scheme.sensitive_db)
    return Assignment({**nodes, **widened}, tuple(widened))


def parse_precision(text: str, plain: Precision) -> Precision:
    """Return what an override's text means beside a scheme's precision.

    Raises:
        BadInput: it means nothing, or what HTP doesn't take.
    """
    if text == "float":
        return replace(plain, activations="float", weights="float")
    found = re.fullmatch(r"(?:w(4|8))?(?:a(8|16))?", text)
    if not found or not text:
        raise BadInput(f"{text!r} is no precision", hint="such as float, w4, w8, a8, a16 or w8a16")
    weights, activations = found.groups()
    changes: dict[str, Any] = {}
    if weights:
        changes["weights"] = f"int{weights}"
    if activations:
        sign = "" if plain.activations.startswith("int") else "u"
        changes["activations"] = f"{sign}int{activations}"
    precision = replace(plain, **changes)
    check_precision(precision)
    return precision


def _has_say(text: str, node: ir.Node) -> bool:
    """Whether a precision says anything about a node: of weights alone it does for few."""
    return text == "float" or "a" in text or linear_of(node) is not None


def _matches(pattern: str, node: ir.Node) -> bool:
    if pattern.startswith(OPERATOR):
        return fnmatchcase(node.op_type, pattern.removeprefix(OPERATOR))
    modules = module_of(node).split("+")
    return any(fnmatchcase(m, pattern) or fnmatchcase(m, f"{pattern}.*") for m in modules)


def _lost(pattern: str, nodes: Iterable[ir.Node]) -> BadInput:
    if pattern.startswith(OPERATOR):
        known = {f"{OPERATOR}{node.op_type}" for node in nodes}
    else:
        known = {path for node in nodes for path in module_of(node).split("+")}
    return BadInput(f"no node fits the pattern {pattern!r}", hint=nearest(pattern, known))
