"""The two matrices as large as the vocabulary, a few rows at a time.

In a large vocabulary the embedding and the head outweigh any layer; a sequence needs only its own
rows of the one, and the other can be multiplied in pieces.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx_ir as ir

from modelc.ir.emit import Scope, Sheet, dims_of
from modelc.ir.stored import slice_rows
from modelc.ir.weights import StoredWeight

PIECE_BYTES: Final = 32 << 20  # of a head's piece, as float32


def keep_rows(model: ir.Model, token_ids: np.ndarray) -> ir.Model:
    """Return a copy whose embedding has only the rows of `token_ids`, in their order.

    `input_ids` then are places in `token_ids`.
    """
    model = model.clone()
    for node in model.graph:
        if node.op_type == "Gather" and node.inputs[1] is _input(model, "input_ids"):
            table = node.inputs[0]
            assert table is not None and isinstance(table.const_value, StoredWeight)
            rows = table.const_value.source.decode_rows(token_ids)
            table.const_value = ir.Tensor(rows, name=table.name)
            table.shape = ir.Shape(rows.shape)
    return model


def split_head(model: ir.Model, piece_bytes: int) -> ir.Model:
    """Return a copy whose head is multiplied in pieces of at most `piece_bytes` of float32.

    The pieces are modules `lm_head.0`, `lm_head.1`, ...; a small head stays whole.
    """
    model = model.clone()
    weight = model.graph.initializers["lm_head.weight"]
    assert isinstance(weight.const_value, StoredWeight)
    source = weight.const_value.source
    hidden, vocab = weight.const_value.shape.numpy()
    rows = max(1, piece_bytes // (4 * hidden))
    if rows >= vocab:
        return model
    (node,) = (use.node for use in weight.uses())
    scope = Scope("lm_head", Sheet(initializers=model.graph.initializers))
    x, dims = node.inputs[0], dims_of(node.outputs[0])
    pieces = []
    for index, first in enumerate(range(0, vocab, rows)):
        last = min(first + rows, vocab)
        piece = scope.inside(str(index))
        matrix = piece.weight(piece.path("weight"), slice_rows(source, first, last))
        pieces.append(piece.emit("MatMul", [x, matrix], [*dims[:-1], last - first]))
    whole = scope.emit("Concat", pieces, dims, "joined", axis=-1)
    ir.convenience.replace_nodes_and_values(
        model.graph, node, [node], scope.sheet.nodes, node.outputs, [whole]
    )
    del model.graph.initializers["lm_head.weight"]
    return model


def _input(model: ir.Model, name: str) -> ir.Value:
    return next(value for value in model.graph.inputs if value.name == name)
