"""Which kernels compute an operator: the table of patterns, and going through a graph by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import onnx_ir as ir

from modelc.errors import ModelcError, Where
from modelc.ir.provenance import module_of
from modelc.targets.cuda.emitter import Emitter, Rule
from modelc.targets.cuda.patterns.attention import ATTENTION
from modelc.targets.cuda.patterns.elementwise import ELEMENTWISE
from modelc.targets.cuda.patterns.experts import EXPERTS
from modelc.targets.cuda.patterns.linear import LINEAR
from modelc.targets.cuda.torch_operators import OPERATORS

PATTERNS: Final[Mapping[str, Rule]] = {**ELEMENTWISE, **LINEAR, **ATTENTION, **EXPERTS}


def dispatch(graph: ir.Graph, emitter: Emitter) -> None:
    """Add the calls of a graph, in its order. What no kernel computes goes to torch.

    Raises:
        ModelcError: neither has the operator; names its module path.
    """
    for node in graph:
        rule = PATTERNS.get(node.op_type)
        if rule is not None:
            rule(node, emitter)
        elif node.op_type in OPERATORS and not node.domain:
            attributes = {name: attribute.value for name, attribute in node.attributes.items()}
            emitter.operator(node, node.op_type, attributes)
        else:
            raise ModelcError(
                f"neither a kernel nor torch computes {node.op_type}",
                where=Where(module=module_of(node)),
                hint="this model can't be compiled for CUDA",
            )
