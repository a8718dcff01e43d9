"""Whether a decoder's parts fit each other: what one gives, the next one takes."""

from __future__ import annotations

from collections.abc import Sequence

from modelc.errors import ModelcError, Where
from modelc.ir import genie
from modelc.targets.snapdragon.binary import BinaryInfo, Graph, Tensor
from modelc.targets.snapdragon.graph_names import GraphKey, check_complete, parse

_OUTSIDE = (genie.INPUT_IDS, genie.MASK, genie.COS, genie.SIN)


def check_chain(binaries: Sequence[BinaryInfo]) -> None:
    """Check that every graph takes what Genie or the part before gives, in the same encoding, and
    that a cache has one encoding in all graphs.

    Raises:
        BadInput: a graph is missing, or there twice.
        ModelcError: says all that doesn't fit.
    """
    graphs = {parse(graph.name): graph for info in binaries for graph in info.graphs}
    check_complete([parse(graph.name) for info in binaries for graph in info.graphs])
    problems = [problem for key in sorted(graphs) for problem in _boundary(key, graphs)] + _caches(
        list(graphs.values())
    )
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise ModelcError(
            f"the parts don't fit each other:\n{listed}", where=Where(step="describe_binaries")
        )


def _boundary(key: GraphKey, graphs: dict[GraphKey, Graph]) -> list[str]:
    before = GraphKey(key.ar, key.context_length, key.part - 1, key.parts)
    given = {tensor.name: tensor for tensor in graphs[before].outputs} if key.part > 1 else {}
    problems = []
    for tensor in graphs[key].inputs:
        if tensor.name in _OUTSIDE or genie.is_cache(tensor.name):
            continue
        if tensor.name not in given:
            problems.append(f"{key.name} takes {tensor.name}, which nothing gives")
        elif _meaning(given[tensor.name]) != _meaning(tensor):
            problems.append(f"{key.name} takes {tensor.name} in another encoding than it is given")
    return problems


def _caches(graphs: Sequence[Graph]) -> list[str]:
    seen: dict[str, tuple[object, ...]] = {}
    problems = []
    for graph in graphs:
        for tensor in (*graph.inputs, *graph.outputs):
            if not genie.is_cache(tensor.name):
                continue
            name = tensor.name.removesuffix("_in").removesuffix("_out")
            meaning = (tensor.dtype, tensor.scale, tensor.zero_point)
            if seen.setdefault(name, meaning) != meaning:
                problems.append(f"{graph.name} has {tensor.name} in another encoding")
    return problems


def _meaning(tensor: Tensor) -> tuple[object, ...]:
    return (tensor.shape, tensor.dtype, tensor.scale, tensor.zero_point)
