"""Operators that HTP doesn't take, or computes wrongly, as others that it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from modelc.ir.legality import Stage
from modelc.ir.provenance import module_of
from modelc.passes.base import Pass
from modelc.passes.network.decompose.table import TABLE
from modelc.passes.network.read import has_sizes
from modelc.passes.network.remove_dead_code import sweep
from modelc.passes.network.sketch import Names, Sketch


@dataclass(frozen=True)
class DecomposeOperators(Pass):
    """Each node of the table is replaced, and what comes in its place likewise, until none is left
    that has to be. Nodes whose sizes aren't known, or are 0, stay and are refused later."""

    name: ClassVar[str] = "decompose_operators"
    before: ClassVar[Stage] = "network"
    after: ClassVar[Stage] = "network"

    def apply(self, model: ir.Model) -> ir.Model:
        names = Names(model.graph)
        waiting = list(model.graph)[::-1]
        while waiting:
            node = waiting.pop()
            row = TABLE.get(node.op_type) if node.domain == "" else None
            if row is None or not has_sizes(node):
                continue
            sketch = Sketch(model.graph, node, names)
            results = row.decompose(sketch, node)
            if results is None:
                sketch.abandon()
                continue
            sketch.finish(results)
            waiting += sketch.nodes[::-1]
        sweep(model)
        return model


@dataclass(frozen=True)
class WrittenOut:
    """A node that HTP gets as other operators.

    Attributes:
        operators: those that come in its place, before they are written out themselves.
        reason: why.
    """

    name: str
    operator: str
    module: str
    operators: tuple[str, ...]
    reason: str


def written_out(model: ir.Model) -> tuple[WrittenOut, ...]:
    """Return the nodes of a network that the pass would replace; the model stays as it is."""
    copy = model.clone()
    names, found = Names(copy.graph), []
    for node in copy.graph:
        row = TABLE.get(node.op_type) if node.domain == "" else None
        if row is None or not has_sizes(node):
            continue
        sketch = Sketch(copy.graph, node, names)
        if row.decompose(sketch, node) is not None:
            kinds = tuple(dict.fromkeys(made.op_type for made in sketch.nodes))
            found.append(
                WrittenOut(str(node.name), node.op_type, module_of(node), kinds, row.reason)
            )
        sketch.abandon()
    return tuple(found)
