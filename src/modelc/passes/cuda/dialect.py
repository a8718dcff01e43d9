"""The operators of CUDA graphs, and looking for what they are made of.

Activations are [tokens, width]: the new tokens of all sequences, one after the other.

    Embed(token_ids, table) scale
    RmsNorm(x, weight) epsilon
    AddRmsNorm(x, y, weight) epsilon                    -> sum, norm
    Linear(x, weight, bias?) activation                 weight [outputs, inputs]
    Int4Linear(x, codes, scales, zeros?, bias?) activation, group
    Fp8Linear(x, codes, scales, bias?, static_scale?) activation, block (0: a scale for each row)
    Gated(x) activation                                 activation(first half) * second half
    RopeWrite(qkv, query_norm?, key_norm?, cos, sin, positions, slots, key_cache, value_cache)
                                                        heads, kv_heads, rotary, epsilon -> queries
    PagedAttention(queries, key_cache, value_cache, block_tables, starts, lengths)
                                                        heads, kv_heads, scale, softcap, window
    SelectRows(x, wanted)                               Softcap(x) cap
    Route(logits) experts, used, normalise              -> ids [tokens, used], shares
    ExpertLinear(x, ids, weight)                        experts, used, activation, shared_input
    ExpertInt4Linear(x, ids, codes, scales, zeros?)     these, and group
    ExpertFp8Linear(x, ids, codes, scales)              these, and block
    Combine(y, shares) used                             y [tokens, used, width], summed up
    AddGated(x, y, gate)                                x + sigmoid(gate) * y
    AllReduce(x)                                        the sum of all devices' x
    AllGather(x)                                        all devices' x side by side
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import onnx_ir as ir

DOMAIN: Final = "modelc.cuda"


def import_dialect(model: ir.Model) -> None:
    """Declare that a model uses the domain."""
    model.opset_imports[DOMAIN] = 1


def nodes_of(graph: ir.Graph, op_type: str) -> Iterator[ir.Node]:
    """Yield the nodes of an operator, whatever is done to the graph meanwhile."""
    yield from [node for node in graph if node.op_type == op_type]


def made_by(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """Return the node that makes a value, if it is an `op_type`."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == op_type else None


def has_one_reader(value: ir.Value) -> bool:
    """Whether exactly one node reads a value, once, and it is no result of the graph."""
    return not value.is_graph_output() and len(value.uses()) == 1
