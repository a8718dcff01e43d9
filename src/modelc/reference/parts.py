"""A decoder's graph cut at its layers: embedding and masks, each layer, norm and head.

Parts share values by name, so they run one after the other on one dictionary of arrays.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import onnx_ir as ir

from modelc.ir.provenance import module_of

_LAYER = re.compile(r"model\.layers\.(\d+)(?:\.|$)")
_HEAD = re.compile(r"(?:model\.norm|lm_head)(?:\.|$)")


def cut_at_layers(model: ir.Model) -> list[ir.Model]:
    """Return the parts of a canonical or expanded graph in the order in which they run.

    A part's inputs are graph inputs and results of parts before it; its outputs are graph outputs
    and what later parts read. The given model is left as it is; weights are shared.
    """
    layers = [int(found[1]) for node in model.graph if (found := _LAYER.match(module_of(node)))]
    head = max(layers, default=-1) + 2
    groups: list[list[ir.Node]] = [[] for _ in range(head + 1)]
    for node in model.graph:
        module = module_of(node)
        if layer := _LAYER.match(module):
            groups[int(layer[1]) + 1].append(node)
        else:
            groups[head if _HEAD.match(module) else 0].append(node)
    return [_part(model, nodes, index) for index, nodes in enumerate(groups)]


def _part(model: ir.Model, nodes: Sequence[ir.Node], index: int) -> ir.Model:
    inside = set(nodes)
    read = dict.fromkeys(value for node in nodes for value in node.inputs if value is not None)
    outer = [value for value in read if value.producer() not in inside]
    outputs = [
        value
        for node in nodes
        for value in node.outputs
        if value.is_graph_output() or any(user not in inside for user in value.consumers())
    ]
    view = ir.GraphView(
        [value for value in outer if not value.is_initializer()],
        outputs,
        nodes=nodes,
        initializers=[value for value in outer if value.is_initializer()],
        opset_imports=model.opset_imports,
        name=f"part_{index}",
    )
    return ir.Model(view.clone(), ir_version=model.ir_version, producer_name=model.producer_name)
