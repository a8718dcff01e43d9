"""Embedding tables whose rows are looked up in the few bits that they are stored in."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from modelc.ir.emit import Dims, Scope, dims_of, new_value
from modelc.ir.packing.half import half_rows
from modelc.ir.packing.matrix import PackedMatrix
from modelc.ir.stored import StoredMatrix
from modelc.passes.cpu.contrib import MICROSOFT


def look_up_packed(scope: Scope, node: ir.Node, table: ir.Value, matrix: PackedMatrix) -> ir.Value:
    """Rows of a packed table; their minima, if they have any, are looked up beside."""
    name, layout = str(table.name), matrix.packing.layout
    dims = dims_of(node.outputs[0])
    result = str(node.outputs[0].name)
    rows = new_value(f"{result}.centred" if layout.minima else result, dims)
    ids = node.inputs[1]
    scope.emit_many(
        "GatherBlockQuantized",
        [
            scope.tensor(matrix.code_rows(f"{name}.codes")),
            ids,
            scope.tensor(matrix.scales(f"{name}.scales")),
        ],
        [rows],
        domain=MICROSOFT,
        bits=layout.bits,
        block_size=layout.block_size,
        gather_axis=0,
        quantize_axis=1,
    )
    if not layout.minima:
        return rows
    lead: Dims = [*dims[:-1], matrix.blocks]
    split = np.array([0, 0, matrix.blocks, layout.block_size], np.int64)
    merge = np.array([0, 0, matrix.columns], np.int64)
    blocks = scope.emit(
        "Reshape",
        [rows, scope.constant(f"{name}.split", split)],
        [*lead, layout.block_size],
        "blocks",
    )
    minima = scope.tensor(matrix.minima(f"{name}.minima"))
    low = scope.emit("Gather", [minima, ids], [*lead, 1], "minima", axis=0)
    total = scope.emit("Add", [blocks, low], [*lead, layout.block_size], "total")
    merged = new_value(result, dims)
    scope.emit_many("Reshape", [total, scope.constant(f"{name}.merge", merge)], [merged])
    return merged


def look_up_halves(
    scope: Scope, node: ir.Node, table: ir.Value, matrices: tuple[StoredMatrix, ...]
) -> ir.Value:
    """Rows of a 16-bit table, widened after they are looked up."""
    halves = scope.tensor(half_rows(matrices, f"{table.name}.half"))
    assert halves.dtype is not None
    dims = dims_of(node.outputs[0])
    rows = scope.emit("Gather", [halves, node.inputs[1]], dims, "half", dtype=halves.dtype, axis=0)
    result = new_value(str(node.outputs[0].name), dims)
    return scope.emit_many("Cast", [rows], [result], to=ir.DataType.FLOAT)[0]
