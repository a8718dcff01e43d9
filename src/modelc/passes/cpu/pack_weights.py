"""Weights as ONNX Runtime's quantised operators read them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Final

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from modelc.errors import BadInput, Where
from modelc.ir.emit import Dims, Scope, dims_of, new_value
from modelc.ir.legality import Stage
from modelc.ir.packing.choose import Gguf, Packing, Weights, choose_packing
from modelc.ir.packing.half import HALVES, half_rows
from modelc.ir.packing.matrix import PackedMatrix
from modelc.ir.packing.recentre import REST_BLOCK
from modelc.ir.stored import StoredMatrix
from modelc.passes.base import Pass
from modelc.passes.cpu import contrib
from modelc.passes.cpu.contrib import MICROSOFT, import_contrib
from modelc.passes.cpu.linears import Linear, linears, matrices_of

# Activations are quantised to int8 in blocks; without it the kernels are far slower.
INT8: Final = 4


@dataclass(frozen=True)
class PackWeights(Pass):
    """MatMul becomes MatMulNBits, the embedding's Gather GatherBlockQuantized.

    Attributes:
        weights: `gguf` keeps the blocks of a GGUF file; `q8_0` and `q4_0` quantise whatever the
            source holds; `float` keeps it as numbers, 16-bit ones as such in the file.
        gguf: `exact` keeps every number of a block; `fast` rounds those whose exact form is slow
            (see `ir.packing.choose.FAST`).
    """

    weights: Weights
    gguf: Gguf = "exact"
    name: ClassVar[str] = "pack_weights"
    before: ClassVar[Stage] = "cpu"
    after: ClassVar[Stage] = "cpu"

    def apply(self, model: ir.Model) -> ir.Model:
        graph = model.graph
        import_contrib(model)
        for linear in linears(graph):
            packing = choose_packing(linear.matrices[0].format, self.weights, self.gguf)
            scope = contrib.scope_at(graph, linear.nodes[0])
            if packing is None:
                _widen(graph, scope, linear)
                continue
            _check_columns(linear.weight, linear.matrices, packing)
            result = _matmul(graph, scope, linear, packing)
            contrib.replace(graph, linear.nodes, scope, [linear.result], [result])
        for node in list(graph):
            if node.op_type == "Gather" and node.inputs[0] is not None:
                self._pack_table(graph, node, node.inputs[0])
        RemoveUnusedNodesPass()(model)
        return model

    def _pack_table(self, graph: ir.Graph, node: ir.Node, table: ir.Value) -> None:
        matrices = matrices_of(table)
        if not matrices:
            return
        # Rows are looked up, not multiplied: nothing is gained by rounding them.
        packing = choose_packing(matrices[0].format, self.weights, "exact")
        scope = contrib.scope_at(graph, node)
        if packing is not None:
            _check_columns(table, matrices, packing)
            result = _look_up(scope, node, table, PackedMatrix(matrices, packing))
        elif matrices[0].format in HALVES:
            result = _look_up_halves(scope, node, table, matrices)
        else:
            return
        contrib.replace(graph, [node], scope, node.outputs, [result])


def _matmul(graph: ir.Graph, scope: Scope, linear: Linear, packing: Packing) -> ir.Value:
    """x @ codes, plus the sums of x's blocks @ minima where blocks have minima."""
    name = str(linear.weight.name)
    matrix = PackedMatrix(_as_stored(linear.matrices), packing)
    layout = packing.layout
    points = scope.tensor(matrix.zero_points(f"{name}.zero_points")) if layout.zero_points else None
    inputs = [
        linear.x,
        scope.tensor(matrix.codes(f"{name}.codes")),
        scope.tensor(matrix.scales(f"{name}.scales")),
        points,
        None,  # group indices: not used
        linear.bias,
    ]
    while inputs[-1] is None:
        inputs.pop()
    dims = dims_of(linear.result)
    result = str(linear.result.name)
    product = new_value(f"{result}.centred" if layout.minima else result, dims)
    scope.emit_many(
        "MatMulNBits",
        inputs,
        [product],
        domain=MICROSOFT,
        K=matrix.columns,
        N=matrix.rows,
        bits=layout.bits,
        block_size=layout.block_size,
        accuracy_level=INT8,
    )
    if not layout.minima:
        return product
    sums = _block_sums(graph, linear, layout.block_size)
    low = new_value(f"{result}.minima", dims)
    if packing.kind == "recentre":
        rest = [matrix.rest_codes(f"{name}.rest.codes"), matrix.rest_scales(f"{name}.rest.scales")]
        scope.emit_many(
            "MatMulNBits",
            [sums, *map(scope.tensor, rest)],
            [low],
            domain=MICROSOFT,
            K=matrix.blocks,
            N=matrix.rows,
            bits=8,
            block_size=REST_BLOCK,
            accuracy_level=INT8,
        )
    else:
        minima = scope.tensor(matrix.minima_columns(f"{name}.minima"))
        scope.emit_many("MatMul", [sums, minima], [low])
    return scope.emit_many("Add", [product, low], [new_value(result, dims)])[0]


def _block_sums(graph: ir.Graph, linear: Linear, block_size: int) -> ir.Value:
    """The sum of each block of x, [batch, sequence, blocks], once for all that read x."""
    name = f"{linear.x.name}.sums.{block_size}"
    for node in linear.x.consumers():
        for reader in node.outputs[0].consumers():
            if reader.outputs[0].name == name:
                return reader.outputs[0]
    scope = contrib.scope_at(graph, linear.nodes[0])
    *lead, width = dims_of(linear.x)
    assert isinstance(width, int)
    blocks = width // block_size
    shape = scope.constant(
        f"shape.blocks.{blocks}x{block_size}", np.array([0, 0, blocks, block_size], np.int64)
    )
    axis = scope.constant("axis.within_blocks", np.array([3], np.int64))
    split = new_value(f"{linear.x.name}.blocks.{block_size}", [*lead, blocks, block_size])
    sums = new_value(name, [*lead, blocks])
    scope.emit_many("Reshape", [linear.x, shape], [split])
    scope.emit_many("ReduceSum", [split, axis], [sums], keepdims=0)
    graph.insert_before(linear.nodes[0], scope.sheet.nodes)
    return sums


def _look_up(scope: Scope, node: ir.Node, table: ir.Value, matrix: PackedMatrix) -> ir.Value:
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


def _look_up_halves(
    scope: Scope, node: ir.Node, table: ir.Value, matrices: tuple[StoredMatrix, ...]
) -> ir.Value:
    """Rows of a 16-bit table, widened after they are looked up."""
    halves = scope.tensor(half_rows(matrices, f"{table.name}.half"))
    assert halves.dtype is not None
    dims = dims_of(node.outputs[0])
    rows = scope.emit("Gather", [halves, node.inputs[1]], dims, "half", dtype=halves.dtype, axis=0)
    result = new_value(str(node.outputs[0].name), dims)
    return scope.emit_many("Cast", [rows], [result], to=ir.DataType.FLOAT)[0]


def _widen(graph: ir.Graph, scope: Scope, linear: Linear) -> None:
    """A 16-bit matrix stays 16-bit in the file; ONNX Runtime widens it once, when it loads."""
    if linear.matrices[0].format not in HALVES:
        return
    name = str(linear.weight.name)
    halves = scope.tensor(half_rows(_as_stored(linear.matrices), f"{name}.half", transposed=True))
    wide = new_value(f"{name}.wide", dims_of(linear.weight))
    scope.emit_many("Cast", [halves], [wide], to=ir.DataType.FLOAT)
    graph.insert_before(linear.nodes[0], scope.sheet.nodes)
    linear.nodes[0].replace_input_with(1, wide)


def _as_stored(matrices: tuple[StoredMatrix, ...]) -> tuple[StoredMatrix, ...]:
    return tuple(replace(matrix, transposed=False) for matrix in matrices)


def _check_columns(weight: ir.Value, matrices: tuple[StoredMatrix, ...], packing: Packing) -> None:
    columns, block = matrices[0].shape[-1], packing.layout.block_size
    if columns % block:
        raise BadInput(
            f"{weight.name} has rows of {columns}, not whole blocks of {block}",
            where=Where(module=str(weight.name).removesuffix(".weight")),
            hint="use --quant fp32",
        )
