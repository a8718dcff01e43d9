"""One device's share of a model that several hold together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import onnx_ir as ir

from modelc.errors import BadInput, ModelcError, Where
from modelc.ir.emit import dims_of, new_value
from modelc.ir.legality import Stage
from modelc.ir.provenance import module_of
from modelc.ir.stored import StoredMatrix, slice_rows
from modelc.passes.base import Pass
from modelc.passes.cpu.contrib import scope_at
from modelc.passes.cpu.linears import Linear, SideBySide, linears, matrices_of
from modelc.passes.cuda.dialect import DOMAIN, nodes_of

_BY_OUTPUTS: Final = re.compile(r"(q|k|v|gate|up)_proj")
_BY_INPUTS: Final = re.compile(r"(o|down)_proj")
_ELEMENTWISE: Final = frozenset({"Add", "Mul", "Sigmoid", "Gelu"})


class SomeInputs(SideBySide):
    """The weight of a layer that is given some of its inputs: those from `columns[0]` up to
    `columns[1]`."""

    def __init__(
        self, sources: Sequence[StoredMatrix], name: str, columns: tuple[int, int]
    ) -> None:
        super().__init__(sources, name)
        self.columns = columns


@dataclass(frozen=True)
class ShardTensors(Pass):
    """Layers that widen have a share of their outputs, those that narrow again a share of their
    inputs, behind which AllReduce adds the shares up; the head has a share of the vocabulary, which
    AllGather puts together (Megatron-LM, arXiv:1909.08053).

    Attributes:
        ranks: devices.
        rank: whose share it is.
    """

    ranks: int = 1
    rank: int = 0
    name: ClassVar[str] = "shard_tensors"
    before: ClassVar[Stage] = "cuda"
    after: ClassVar[Stage] = "cuda"

    def apply(self, model: ir.Model) -> ir.Model:
        if self.ranks == 1:
            return model
        graph = model.graph
        for node in [*nodes_of(graph, "RopeWrite"), *nodes_of(graph, "PagedAttention")]:
            self._share_heads(node)
        for linear in linears(graph):
            self._share(graph, linear)
        for node in nodes_of(graph, "ExpertLinear"):
            self._share_experts(graph, node)
        for value in graph.inputs:
            if str(value.name).startswith(("key_cache.", "value_cache.")):
                pages, heads, page, width = dims_of(value)
                value.shape = ir.Shape([pages, self._part(heads, str(value.name)), page, width])
        _infer(graph)
        return model

    def _part(self, size: int | str, what: str) -> int:
        assert isinstance(size, int)
        if size % self.ranks:
            raise BadInput(
                f"{size} of {what} can't be shared by {self.ranks} devices",
                hint="use another --tensor-parallel, a divisor of the key heads and of the widths",
            )
        return size // self.ranks

    def _share_heads(self, node: ir.Node) -> None:
        for name in ("heads", "kv_heads"):
            count = node.attributes.get_int(name, 0)
            node.attributes[name] = ir.AttrInt64(name, self._part(count, name))
        value = node.outputs[0]
        lead, width = dims_of(value)
        value.shape = ir.Shape([lead, self._part(width, str(value.name))])

    def _share(self, graph: ir.Graph, linear: Linear) -> None:
        module = module_of(linear.nodes[0])
        last = str(linear.weight.name).removesuffix(".weight").rpartition(".")[2]
        if module == "lm_head":
            if linear.width % self.ranks == 0:
                self._outputs(graph, linear)
                _collect(graph, linear.result, "AllGather", linear.width)
        elif _BY_OUTPUTS.match(last):
            self._outputs(graph, linear)
        elif _BY_INPUTS.match(last):
            self._inputs(graph, linear.nodes[0], 1, linear.weight)
            product = linear.nodes[0].outputs[0]
            _collect(graph, product, "AllReduce", linear.width)
        # Routers and gates of one number are whole everywhere.

    def _outputs(self, graph: ir.Graph, linear: Linear) -> None:
        scope = scope_at(graph, linear.nodes[0])
        for node, place, value in (
            (linear.nodes[0], 1, linear.weight),
            *([(linear.nodes[1], 1, linear.bias)] if linear.bias is not None else []),
        ):
            sources = [self._rows(one) for one in matrices_of(value)]
            shared = scope.tensor(SideBySide(sources, self._named(value)))
            at = place if node.inputs[place] is value else 0
            node.replace_input_with(at, shared)
        for node in linear.nodes:
            lead, width = dims_of(node.outputs[0])
            node.outputs[0].shape = ir.Shape([lead, self._part(width, scope.module)])

    def _rows(self, source: StoredMatrix) -> StoredMatrix:
        first, last = source.rows or (0, source.shape[0])
        share = self._part(last - first, "outputs")
        return slice_rows(source, self.rank * share, (self.rank + 1) * share)

    def _inputs(self, graph: ir.Graph, node: ir.Node, place: int, weight: ir.Value) -> None:
        sources = matrices_of(weight)
        share = self._part(sources[0].shape[-1], f"inputs of {weight.name}")
        columns = (self.rank * share, (self.rank + 1) * share)
        tensor = SomeInputs(sources, self._named(weight), columns)
        node.replace_input_with(place, scope_at(graph, node).tensor(tensor))

    def _named(self, weight: ir.Value) -> str:
        stem, _, last = str(weight.name).rpartition(".")
        return f"{stem}.share.{last}"

    def _share_experts(self, graph: ir.Graph, node: ir.Node) -> None:
        weight = node.inputs[2]
        assert weight is not None
        if ".down." in str(weight.name):
            self._inputs(graph, node, 2, weight)
            total = next(iter(node.outputs[0].consumers()))  # Combine: one sum less to send
            value = total.outputs[0]
            width = dims_of(value)[-1]
            assert isinstance(width, int)
            _collect(graph, value, "AllReduce", width)
            return
        sources = [self._rows(one) for one in matrices_of(weight)]
        share = SideBySide(sources, self._named(weight))
        node.replace_input_with(2, scope_at(graph, node).tensor(share))
        lead, used, width = dims_of(node.outputs[0])
        part = self._part(width, module_of(node))
        node.outputs[0].shape = ir.Shape([lead, used, part])


def _collect(graph: ir.Graph, value: ir.Value, operator: str, width: int) -> None:
    """Let all devices' shares of a value meet behind the node that makes it."""
    node = value.producer()
    if node is None:
        raise ModelcError(f"{value.name} is not computed", where=Where(module=str(value.name)))
    scope, name = scope_at(graph, node), str(value.name)
    lead, _ = dims_of(value)
    made = new_value(name, [lead, width])
    value.name = f"{name}.share"
    is_output = value.is_graph_output()
    scope.emit_many(operator, [value], [made], domain=DOMAIN)
    new = scope.sheet.nodes[0]
    for reader, place in list(value.uses()):
        if reader is not new:
            reader.replace_input_with(place, made)
    graph.insert_after(node, [new])
    if is_output:
        graph.outputs[list(graph.outputs).index(value)] = made


def _infer(graph: ir.Graph) -> None:
    """Set the sizes of what is computed of shares, element by element or side by side."""
    for node in graph:
        sides = [dims_of(value) for value in node.inputs if value is not None and value.shape]
        value = node.outputs[0]
        if node.op_type == "Concat":
            width = sum(int(side[-1]) for side in sides)
        elif node.op_type == "Gated":
            width = int(sides[0][-1]) // 2
        elif node.op_type in _ELEMENTWISE and not node.domain:
            width = max(int(side[-1]) for side in sides if side)
        else:
            continue
        value.shape = ir.Shape([*dims_of(value)[:-1], width])
