"""Weights that lie in the file in few bits and are multiplied as float32: ONNX Runtime computes
what depends on constants alone once, when it loads."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from modelc.ir.emit import Scope, dims_of, new_value
from modelc.ir.packing.form_matrix import FormMatrix
from modelc.ir.packing.half import HALVES, half_rows
from modelc.ir.stored import StoredMatrix
from modelc.passes.cpu.linears import Linear


def widen_halves(
    graph: ir.Graph, scope: Scope, linear: Linear, stored: tuple[StoredMatrix, ...]
) -> None:
    """A 16-bit matrix stays 16-bit in the file; other floats stay as they are."""
    if stored[0].format in HALVES:
        name = str(linear.weight.name)
        halves = scope.tensor(half_rows(stored, f"{name}.half", transposed=True))
        wide = _floats(scope, halves, dims_of(linear.weight), f"{name}.wide")
        _multiply_by(graph, scope, linear, wide)


def widen_codes(graph: ir.Graph, scope: Scope, linear: Linear, matrix: FormMatrix) -> None:
    """Codes, less their zeros, times their scales.

    Not DequantizeLinear: it would be computed at each call, and ONNX Runtime makes a MatMul after
    it one that rounds activations to int8, asked or not.
    """
    name, dims = str(linear.weight.name), dims_of(linear.weight)
    codes = scope.tensor(matrix.codes(f"{name}.codes"))
    if matrix.elements is None:
        numbers = _floats(scope, codes, dims, f"{name}.numbers")
    else:
        places = new_value(f"{name}.places", dims, ir.DataType.INT32)
        scope.emit_many("Cast", [codes], [places], to=ir.DataType.INT32)
        elements = scope.constant(f"{name}.elements", matrix.elements)
        numbers = new_value(f"{name}.numbers", dims)
        scope.emit_many("Gather", [elements, places], [numbers], axis=0)
    if matrix.has_zeros:
        zeros = scope.tensor(matrix.zeros(f"{name}.zeros"))
        zeros = _floats(scope, zeros, dims_of(zeros), f"{name}.zeros.float")
        each = _for_each_input(scope, matrix, zeros, f"{name}.zeros.each")
        centred = new_value(f"{name}.centred", dims)
        scope.emit_many("Sub", [numbers, each], [centred])
        numbers = centred
    scales = scope.tensor(matrix.scales(f"{name}.scales"))
    each = _for_each_input(scope, matrix, scales, f"{name}.scales.each")
    wide = new_value(f"{name}.wide", dims)
    scope.emit_many("Mul", [numbers, each], [wide])
    _multiply_by(graph, scope, linear, wide)


def _floats(scope: Scope, codes: ir.Value, dims: list[int | str], name: str) -> ir.Value:
    made = new_value(name, dims)
    scope.emit_many("Cast", [codes], [made], to=ir.DataType.FLOAT)
    return made


def _for_each_input(scope: Scope, matrix: FormMatrix, rows: ir.Value, name: str) -> ir.Value:
    """Rows of blocks [blocks, outputs] as [inputs, outputs]; [1, outputs] may stay."""
    block = matrix.form.block
    if matrix.blocks == 1:
        return rows
    places = np.arange(matrix.columns, dtype=np.int64) // block
    places_of = scope.constant(f"places.of.{matrix.columns}.in.{block}", places)
    made = new_value(name, [matrix.columns, matrix.rows])
    scope.emit_many("Gather", [rows, places_of], [made], axis=0)
    return made


def _multiply_by(graph: ir.Graph, scope: Scope, linear: Linear, wide: ir.Value) -> None:
    """Let a layer read what a scope's nodes make instead of its weight."""
    graph.insert_before(linear.nodes[0], scope.sheet.nodes)
    linear.nodes[0].replace_input_with(1, wide)
