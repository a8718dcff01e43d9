"""Min and Max of one value with numbers, as Clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from modelc.ir.legality import Stage
from modelc.passes.base import Pass
from modelc.passes.network.read import (
    dtype_of,
    has_sizes,
    is_op,
    made_by,
    needed,
    number_of,
    only_reader,
    sizes_of,
)
from modelc.passes.network.remove_dead_code import sweep
from modelc.passes.network.sketch import Names, Sketch


@dataclass(frozen=True)
class FuseClips(Pass):
    """Max(Min(x, high), low) and Min(Max(x, low), high) become Clip(x, low, high), with numbers
    that are not the other way round.

    Behind a sum or a product of 16 bits HTP leaves both out, as it does a Clip; but of a Clip it is
    known that the codes must end where it does.
    """

    name: ClassVar[str] = "fuse_clips"
    before: ClassVar[Stage] = "network"
    after: ClassVar[Stage] = "network"

    def apply(self, model: ir.Model) -> ir.Model:
        names = Names(model.graph)
        for node in list(model.graph):
            if not is_op(node, "Min", "Max") or not has_sizes(node):
                continue
            outer, inner = _bounded(node), None
            if outer is not None:
                inner = made_by(outer[0], "Max" if node.op_type == "Min" else "Min")
            within = _bounded(inner) if inner is not None else None
            if outer is None or inner is None or within is None:
                continue
            if only_reader(outer[0]) is not node or sizes_of(within[0]) != sizes_of(outer[0]):
                continue
            bounds = {node.op_type: outer[1], inner.op_type: within[1]}
            if bounds["Max"] > bounds["Min"]:
                continue
            x = within[0]
            sketch = Sketch(model.graph, node, names)
            low, high = (sketch.number(bounds[name], x, "bound") for name in ("Max", "Min"))
            sketch.finish([sketch.op("Clip", [x, low, high], sizes_of(x))], [inner])
        sweep(model)
        return model


def _bounded(node: ir.Node) -> tuple[ir.Value, float] | None:
    """Return the value and the number that a node takes the smaller or the larger of."""
    if len(node.inputs) != 2:
        return None
    for index in (0, 1):
        value, number = needed(node, 1 - index), number_of(node.inputs[index])
        if number is not None and dtype_of(value).is_floating_point():
            same = sizes_of(node.outputs[0]) == sizes_of(value)
            return (value, number) if same else None
    return None
