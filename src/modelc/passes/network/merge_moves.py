"""Moves behind moves: one instead of two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from modelc.ir.legality import Stage
from modelc.passes.base import Pass
from modelc.passes.network.read import has_sizes, integers, is_op, made_by, needed, sizes_of
from modelc.passes.network.remove_dead_code import sweep
from modelc.passes.network.sketch import Names, Sketch

_RESHAPES = ("Reshape", "Squeeze", "Unsqueeze", "Flatten")


@dataclass(frozen=True)
class MergeMoves(Pass):
    """Transposes in a row become one, or none where they undo each other; Reshape, Squeeze,
    Unsqueeze and Flatten in a row become one Reshape. A transpose that moves only axes of size 1
    becomes a Reshape, which moves no data."""

    name: ClassVar[str] = "merge_moves"
    before: ClassVar[Stage] = "network"
    after: ClassVar[Stage] = "network"

    def apply(self, model: ir.Model) -> ir.Model:
        names = Names(model.graph)
        for node in list(model.graph):
            if not has_sizes(node):
                continue
            if is_op(node, "Transpose"):
                _transposes(model.graph, node, names)
            elif is_op(node, *_RESHAPES):
                _reshapes(model.graph, node, names)
        sweep(model)
        return model


def _transposes(graph: ir.Graph, node: ir.Node, names: Names) -> None:
    value = needed(node)
    perm = _perm(node)
    fused = []
    if (earlier := made_by(value, "Transpose")) is not None:
        first = _perm(earlier)
        perm = [first[axis] for axis in perm]
        value = needed(earlier)
        fused = [earlier]
    moved = [axis for axis in perm if sizes_of(value)[axis] != 1]
    if moved != sorted(moved) and not fused:
        return
    sketch = Sketch(graph, node, names)
    if moved == sorted(moved):
        result = sketch.reshape(value, [sizes_of(value)[axis] for axis in perm])
    else:
        result = sketch.transpose(value, perm)
    sketch.finish([result], fused)


def _reshapes(graph: ir.Graph, node: ir.Node, names: Names) -> None:
    earlier = made_by(needed(node), *_RESHAPES)
    if earlier is not None:
        sketch = Sketch(graph, node, names)
        result = sketch.reshape(needed(earlier), sizes_of(node.outputs[0]))
        sketch.finish([result], [earlier])


def _perm(node: ir.Node) -> list[int]:
    return integers(node, "perm", range(len(sizes_of(needed(node))))[::-1])
