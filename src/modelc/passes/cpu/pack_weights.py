"""Weights as ONNX Runtime's quantised operators read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from modelc.decoder.expert_modules import is_router
from modelc.ir.emit import Scope, dims_of, new_value
from modelc.ir.legality import Stage
from modelc.ir.packing.choose import Blocks, Gguf, choose_packing
from modelc.ir.packing.form_matrix import FormMatrix
from modelc.ir.packing.half import HALVES
from modelc.ir.packing.kinds import Form
from modelc.ir.packing.matrix import PackedMatrix
from modelc.ir.packing.recentre import REST_BLOCK
from modelc.ir.stored import StoredMatrix
from modelc.passes.base import Pass
from modelc.passes.cpu import contrib
from modelc.passes.cpu.coding import Weights, coding_of, first_module, kind_of
from modelc.passes.cpu.contrib import MICROSOFT, import_contrib
from modelc.passes.cpu.linears import Linear, linears, matrices_of
from modelc.passes.cpu.look_up import look_up_halves, look_up_packed
from modelc.passes.cpu.widen import widen_codes, widen_halves
from modelc.passes.dynamic_rounding import Activations, round_dynamically

# Accuracy levels of MatMulNBits, whose kernels are far slower without int8.
_FLOAT: Final = 1
_INT8: Final = 4


@dataclass(frozen=True)
class PackWeights(Pass):
    """MatMul becomes MatMulNBits, the embedding's Gather GatherBlockQuantized.

    Attributes:
        weights: `gguf` keeps the blocks of a GGUF file; `q8_0` and `q4_0` quantise whatever the
            source holds; `float` keeps it as numbers, 16-bit ones as such in the file; `kinds`
            goes by `kinds` in linear layers and keeps tables as they are.
        gguf: `exact` keeps every number of a block; `fast` rounds those whose exact form is slow
            (see `ir.packing.choose.FAST`).
        kinds: module path -> kind of its weights (`ir.packing.kinds.KINDS`), "" for most. Codes of
            it that a matrix consists of are kept.
        activations: what MatMulNBits multiplies: `int8_dynamic` rounds each block of a token by its
            largest magnitude, which is fastest; `float` doesn't. Small floats are of each token.
    """

    weights: Weights
    gguf: Gguf = "exact"
    kinds: Mapping[str, str] = field(default_factory=dict)
    activations: Activations = "int8_dynamic"
    name: ClassVar[str] = "pack_weights"
    before: ClassVar[Stage] = "cpu"
    after: ClassVar[Stage] = "cpu"

    def apply(self, model: ir.Model) -> ir.Model:
        graph = model.graph
        import_contrib(model)
        if self.activations != "int8_dynamic":  # that is what MatMulNBits does
            round_dynamically(graph, self.activations, self._kind_of)
        for linear in linears(graph):
            self._pack_linear(graph, linear)
        for node in list(graph):
            if node.op_type == "Gather" and node.inputs[0] is not None:
                self._pack_table(graph, node, node.inputs[0])
        RemoveUnusedNodesPass()(model)
        return model

    def _kind_of(self, module: str) -> str:
        """Return the kind of a module's weight, "" for routers of experts."""
        return "" if is_router(first_module(module)) else kind_of(module, self.kinds)

    def _pack_linear(self, graph: ir.Graph, linear: Linear) -> None:
        coding = coding_of(linear, self.weights, self.gguf, self.kinds, self.activations)
        scope, stored = contrib.scope_at(graph, linear.nodes[0]), _as_stored(linear.matrices)
        if coding is None:
            widen_halves(graph, scope, linear, stored)
        elif isinstance(coding, Form):
            widen_codes(graph, scope, linear, FormMatrix(stored, coding))
        else:
            level = _INT8 if self.activations == "int8_dynamic" else _FLOAT
            result = _matmul(graph, scope, linear, PackedMatrix(stored, coding), level)
            contrib.replace(graph, linear.nodes, scope, [linear.result], [result])

    def _pack_table(self, graph: ir.Graph, node: ir.Node, table: ir.Value) -> None:
        matrices = matrices_of(table)
        if not matrices:
            return
        # Rows are looked up, not multiplied: nothing is gained by rounding them.
        blocks: Blocks = "gguf" if self.weights == "kinds" else self.weights
        packing = choose_packing(matrices[0].format, blocks, "exact")
        scope = contrib.scope_at(graph, node)
        if packing is not None:
            result = look_up_packed(scope, node, table, PackedMatrix(matrices, packing))
        elif matrices[0].format in HALVES:
            result = look_up_halves(scope, node, table, matrices)
        else:
            return
        contrib.replace(graph, [node], scope, node.outputs, [result])


def _matmul(
    graph: ir.Graph, scope: Scope, linear: Linear, matrix: PackedMatrix, level: int
) -> ir.Value:
    """x @ codes, plus the sums of x's blocks @ minima where blocks have minima."""
    name, layout = str(linear.weight.name), matrix.packing.layout
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
        accuracy_level=level,
    )
    if not layout.minima:
        return product
    sums = _block_sums(graph, linear, layout.block_size)
    low = new_value(f"{result}.minima", dims)
    if layout.zero_points:  # then the minima are what recentring left
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
            accuracy_level=level,
        )
    else:
        minima = scope.tensor(matrix.minima_columns(f"{name}.minima"))
        scope.emit_many("MatMul", [sums, minima], [low])
    return scope.emit_many("Add", [product, low], [new_value(result, dims)])[0]


def _block_sums(graph: ir.Graph, linear: Linear, block_size: int) -> ir.Value:
    """The sum of each block of x, [..., blocks], once for all that read x."""
    name = f"{linear.x.name}.sums.{block_size}"
    for node in linear.x.consumers():
        for reader in node.outputs[0].consumers():
            if reader.outputs[0].name == name:
                return reader.outputs[0]
    scope = contrib.scope_at(graph, linear.nodes[0])
    *lead, width = dims_of(linear.x)
    assert isinstance(width, int)
    blocks = width // block_size
    sizes = [*(0 for _ in lead), blocks, block_size]
    ending = "" if len(lead) == 2 else f".{len(lead)}"  # an expert's tokens have no batch
    shape = scope.constant(f"shape.blocks.{blocks}x{block_size}{ending}", np.array(sizes, np.int64))
    axis = scope.constant(f"axis.within_blocks{ending}", np.array([len(sizes) - 1], np.int64))
    split = new_value(f"{linear.x.name}.blocks.{block_size}", [*lead, blocks, block_size])
    sums = new_value(name, [*lead, blocks])
    scope.emit_many("Reshape", [linear.x, shape], [split])
    scope.emit_many("ReduceSum", [split, axis], [sums], keepdims=0)
    graph.insert_before(linear.nodes[0], scope.sheet.nodes)
    return sums


def _as_stored(matrices: tuple[StoredMatrix, ...]) -> tuple[StoredMatrix, ...]:
    return tuple(replace(matrix, transposed=False) for matrix in matrices)
