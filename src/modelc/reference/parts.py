"""A decoder's graph cut at its layers: embedding and masks, each layer, norm and head.

Parts share values by name, so they run one after the other on one dictionary of arrays.
"""

from __future__ import annotations

import re

import onnx_ir as ir

from modelc.ir.provenance import module_of
from modelc.ir.subgraph import subgraph

_LAYER = re.compile(r"model\.layers\.(\d+)(?:\.|$)")
_HEAD_PIECE = re.compile(r"lm_head\.(\d+)$")
_HEAD = re.compile(r"(?:model\.norm|lm_head)(?:\.|$)")


def cut_at_layers(model: ir.Model) -> list[ir.Model]:
    """Return the parts of a canonical or expanded graph in the order in which they run.

    A part's inputs are graph inputs and results of parts before it; its outputs are graph outputs
    and what later parts read. The given model is left as it is; weights are shared. A head in
    pieces (`narrow.split_head`) gives a part for each piece.
    """
    modules = [module_of(node) for node in model.graph]
    last_piece = max(
        (int(found[1]) for found in map(_HEAD_PIECE.match, modules) if found), default=0
    )
    groups: dict[tuple[int, int], list[ir.Node]] = {}
    for node, module in zip(model.graph, modules, strict=True):
        groups.setdefault(_place(module, last_piece), []).append(node)
    ordered = [groups[place] for place in sorted(groups)]
    return [subgraph(model, nodes, module_of(nodes[-1])) for nodes in ordered]


def is_head(part: ir.Model) -> bool:
    """True for the parts behind the last layer: norm, head and its pieces."""
    return bool(_HEAD.match(part.graph.name or ""))


def _place(module: str, last_piece: int) -> tuple[int, int]:
    """Return where in the order a module's part is: embedding and masks, layers, head."""
    if layer := _LAYER.match(module):
        return 1, int(layer[1])
    if piece := _HEAD_PIECE.match(module):
        return 2, int(piece[1])
    if _HEAD.match(module):
        return 2, 0 if module == "model.norm" else last_piece
    return 0, 0
