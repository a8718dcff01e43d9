"""Weights as CUDA's kernels read them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as replace_fields
from typing import Any, ClassVar, Final, Literal

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from modelc.errors import BadInput, Where
from modelc.ir.coded import CodedMatrix
from modelc.ir.emit import Scope, dims_of, new_value
from modelc.ir.legality import Stage
from modelc.ir.packing.kinds import KINDS, Form, IntegerForm
from modelc.ir.packing.row_matrix import RowMatrix, check_form
from modelc.ir.provenance import canonical_name, module_of
from modelc.ir.stored import StoredMatrix
from modelc.passes.base import Pass
from modelc.passes.cpu.coding import kind_of
from modelc.passes.cpu.contrib import replace, scope_at
from modelc.passes.cpu.linears import Linear, linears, matrices_of
from modelc.passes.cuda.dialect import DOMAIN, nodes_of
from modelc.passes.cuda.merge_linears import FLOAT
from modelc.passes.cuda.shard_tensors import SomeInputs

Act = Literal["bf16", "fp16", "fp32"]
ACT_TYPES: Final[Mapping[Act, ir.DataType]] = {
    "bf16": ir.DataType.BFLOAT16,
    "fp16": ir.DataType.FLOAT16,
    "fp32": ir.DataType.FLOAT,
}
"""float32 is for running a plan with the reference operators, to see that it is right."""

_EXPERTS: Final = re.compile(r"(.+)\.(gate|down)(?:\+up)?(?:\.share)?\.weight")


@dataclass(frozen=True)
class PackLinears(Pass):
    """MatMul becomes Linear, Int4Linear or Fp8Linear, whose weights are rows of output channels;
    tables become what the model computes in.

    Attributes:
        act: what the model computes in.
        kinds: module path -> kind of its weights, "" for most; "float" is `act`.
        static: tensor -> scale of its E4M3 codes, where that is not each token's own.
    """

    act: Act
    kinds: Mapping[str, str] = field(default_factory=dict)
    static: Mapping[str, float] = field(default_factory=dict)
    name: ClassVar[str] = "pack_linears"
    before: ClassVar[Stage] = "cuda"
    after: ClassVar[Stage] = "cuda"

    def apply(self, model: ir.Model) -> ir.Model:
        graph = model.graph
        for linear in linears(graph):
            scope = scope_at(graph, linear.nodes[0])
            kind = kind_of(module_of(linear.nodes[0]), self.kinds)
            form = None if kind == FLOAT else KINDS[kind]
            result = new_value(str(linear.result.name), dims_of(linear.result))
            self._emit(scope, linear, form, result)
            replace(graph, linear.nodes, scope, [linear.result], [result])
        for node in nodes_of(graph, "ExpertLinear"):
            self._pack_experts(graph, node)
        for node in nodes_of(graph, "Embed"):
            table = node.inputs[1]
            assert table is not None
            rows = RowMatrix(_as_stored(matrices_of(table))).floats(
                ACT_TYPES[self.act], f"{table.name}.rows"
            )
            node.replace_input_with(1, scope_at(graph, node).tensor(rows))
        RemoveUnusedNodesPass()(model)
        return model

    def _emit(self, scope: Scope, linear: Linear, form: Form | None, result: ir.Value) -> None:
        operator, weights, sizes = self._weights(scope, linear.weight, form)
        inputs = [linear.x, *weights, linear.bias]
        scale = self.static.get(canonical_name(linear.x))
        if operator == "Fp8Linear" and not sizes["block"] and scale is not None:
            constant = np.array([scale], np.float32)
            inputs.append(scope.constant(f"{linear.x.name}.static_scale", constant))
        scope.emit_many(operator, inputs, [result], domain=DOMAIN, activation="none", **sizes)

    def _pack_experts(self, graph: ir.Graph, node: ir.Node) -> None:
        x, ids, weight = node.inputs
        assert weight is not None
        found = _EXPERTS.fullmatch(str(weight.name))
        assert found is not None, weight.name
        module, which = found[1], f"{found[2]}_proj"
        experts = node.attributes.get_int("experts", 0)
        kinds = {kind_of(f"{module}.{n}.{which}", self.kinds) for n in range(experts)}
        if len(kinds) > 1:
            raise BadInput(
                f"experts of one layer have weights of several kinds: {', '.join(sorted(kinds))}",
                where=Where(module=module),
                hint="give all experts of a layer one kind",
            )
        kind = kinds.pop()
        scope, result = scope_at(graph, node), node.outputs[0]
        made = new_value(str(result.name), dims_of(result))
        form = None if kind == FLOAT else KINDS[kind]
        operator, weights, sizes = self._weights(scope, weight, form)
        others = {name: attribute.value for name, attribute in node.attributes.items()}
        scope.emit_many(
            f"Expert{operator}", [x, ids, *weights], [made], domain=DOMAIN, **others, **sizes
        )
        replace(graph, [node], scope, [result], [made])

    def _weights(
        self, scope: Scope, weight: ir.Value, form: Form | None
    ) -> tuple[str, list[ir.Value | None], dict[str, Any]]:
        """Return the operator that multiplies by weights of a form, its weights, and its sizes."""
        columns = weight.const_value.columns if isinstance(weight.const_value, SomeInputs) else None
        name, matrix = str(weight.name), RowMatrix(_as_stored(matrices_of(weight)), form, columns)
        check_form(form, matrix.width, scope.module)
        if form is not None and form.block_rows > 1:
            _check_rows(matrix, form.block_rows, scope.module)
        if form is not None and form.block and columns and columns[1] % form.block:
            raise _cut(f"{form.block} inputs", columns[1], scope.module)
        if form is None:
            return "Linear", [scope.tensor(matrix.floats(ACT_TYPES[self.act], f"{name}.rows"))], {}
        codes = scope.tensor(matrix.codes(f"{name}.codes"))
        scales = scope.tensor(matrix.scales(f"{name}.scales"))
        if isinstance(form, IntegerForm):
            zeros = scope.tensor(matrix.zeros(f"{name}.zeros")) if matrix.has_zeros else None
            return "Int4Linear", [codes, scales, zeros], {"group": form.block}
        return "Fp8Linear", [codes, scales], {"block": form.block}


def _check_rows(matrix: RowMatrix, block_rows: int, module: str) -> None:
    """Blocks of a checkpoint's own codes are not cut."""
    for source in matrix.sources:
        if isinstance(source, CodedMatrix) and source.rows and source.rows[0] % block_rows:
            raise _cut(f"{block_rows} outputs", source.rows[0], module)


def _cut(block: str, place: int, module: str) -> BadInput:
    return BadInput(
        f"blocks of {block} would be cut at {place}",
        where=Where(module=module),
        hint="use another --tensor-parallel, or a scheme without blocks",
    )


def _as_stored(matrices: Sequence[StoredMatrix]) -> tuple[StoredMatrix, ...]:
    """As rows of output channels: so a tied head and its table are the same tensor."""
    return tuple(replace_fields(matrix, transposed=False) for matrix in matrices)
