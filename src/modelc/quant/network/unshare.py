"""Constants that several nodes read, one for each."""

from __future__ import annotations

from typing import Final

import onnx_ir as ir

from modelc.ir.network_encodings import is_float
from modelc.quant.network.moves import moved_by

LARGEST: Final = 1 << 10
"""Elements; what is larger is a weight."""


def unshare_constants(graph: ir.Graph) -> None:
    """Give each node that moves a small float constant one of its own.

    What is moved has one encoding with what it is moved among: a 0 that is a mask's and a
    probability's as well would give both the range of both.
    """
    for value in list(graph.initializers.values()):
        tensor = value.const_value
        if tensor is None or tensor.size > LARGEST or not is_float(value):
            continue
        readers = sorted(set(value.consumers()), key=lambda node: str(node.name))
        movers = [node for node in readers if value in moved_by(node)]
        for number, node in enumerate(movers[len(movers) == len(readers) :], 1):
            own = ir.Value(
                name=_fresh(graph, f"{value.name}.{number}"), shape=value.shape, type=value.type
            )
            own.const_value = tensor
            graph.register_initializer(own)
            for index, read in enumerate(node.inputs):
                if read is value:
                    node.replace_input_with(index, own)


def _fresh(graph: ir.Graph, name: str) -> str:
    while name in graph.initializers:
        name += "_"
    return name
