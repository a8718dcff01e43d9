"""The static graph cut at residual boundaries into parts that are compiled one by one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal

import onnx_ir as ir

from modelc.decoder.parts import DecoderPart
from modelc.errors import BadInput, ModelcError, Where
from modelc.ir.provenance import module_of
from modelc.ir.subgraph import subgraph

_Place = Literal["embedding", "head"] | int
_LAYER: Final = re.compile(r"model\.layers\.(\d+)(?:\.|$)")
_ENDS: Final[tuple[tuple[re.Pattern[str], _Place], ...]] = (
    (re.compile(r"model\.embed_tokens(?:\.|$)"), "embedding"),
    (re.compile(r"(?:model\.norm|lm_head)(?:\.|$)"), "head"),
)


def split_decoder(model: ir.Model, parts: Sequence[DecoderPart]) -> list[ir.Model]:
    """Cut a static graph of Genie's tensors into one graph per part; `model` stays as it is.

    From part to part goes the hidden state, float [1, AR, hidden], under one name on both sides:
    that of the layer which made it, such as `model.layers.7`, or of the embedding's result. The
    inputs of a part are the tokens or a hidden state, and then those of mask, cos, sin and caches
    that its layers read; its outputs are a hidden state or the logits, and then the new keys and
    values. Weights are shared and not read.

    Raises:
        BadInput: the parts are not the whole decoder, once and in order.
        ModelcError: a node is of no part, or something else than a hidden state crosses.
    """
    places = [_place(node) for node in model.graph]
    _check(parts, layers=1 + max(place for place in places if isinstance(place, int)))
    groups: list[list[ir.Node]] = [[] for _ in parts]
    index = {place: index for index, part in enumerate(parts) for place in _places(part)}
    for node, place in zip(model.graph, places, strict=True):
        groups[index[place]].append(node)
    graphs = [subgraph(model, nodes, str(part)) for part, nodes in zip(parts, groups, strict=True)]
    _check_boundaries(model, graphs)
    return graphs


def _place(node: ir.Node) -> _Place:
    """Return the layer that a node is of, or the end of the decoder."""
    module = module_of(node)
    if layer := _LAYER.match(module):
        return int(layer[1])
    for pattern, place in _ENDS:
        if pattern.match(module):
            return place
    raise ModelcError(f"{node.name} is of no layer, embedding or head", where=Where(module=module))


def _places(part: DecoderPart) -> list[_Place]:
    before: list[_Place] = ["embedding"] if part.embedding else []
    after: list[_Place] = ["head"] if part.head else []
    return [*before, *range(part.first, part.last), *after]


def _check(parts: Sequence[DecoderPart], layers: int) -> None:
    whole: list[_Place] = ["embedding", *range(layers), "head"]
    if any(not _places(part) for part in parts):
        raise BadInput("a part of the decoder is empty")
    if [place for part in parts for place in _places(part)] != whole:
        raise BadInput(
            f"the parts ({', '.join(map(str, parts))}) are not the whole decoder in its order",
            hint=f"once each and in this order: embedding, layers 0-{layers - 1}, head",
        )


def _check_boundaries(model: ir.Model, graphs: Sequence[ir.Model]) -> None:
    """Only one value may cross: Genie hands nothing else on."""
    outside = {value.name for value in [*model.graph.inputs, *model.graph.outputs]}
    made: set[str | None] = set()
    for index, graph in enumerate(graphs):
        taken = {value.name for value in graph.graph.inputs} - outside
        if taken != made or len(taken) != min(index, 1):
            raise ModelcError(
                f"between two parts crosses {sorted(map(str, made | taken))}, not one hidden state",
                where=Where(graph=graph.graph.name or ""),
            )
        made = {value.name for value in graph.graph.outputs} - outside
