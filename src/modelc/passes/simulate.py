"""The expanded graph with everything rounded as a scheme stores it, for the CPU to run in floats.

It is the reference of every scheme: weights and tensors are the numbers that the codes of the
target's graphs stand for, and only the arithmetic between them is float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final

import onnx_ir as ir

from modelc.decoder.expert_modules import is_router
from modelc.ir.encodings import Encoding
from modelc.ir.legality import Stage
from modelc.ir.packing.choose import Blocks, Gguf, choose_packing
from modelc.ir.packing.form_packing import FormPacking, form_packing
from modelc.ir.packing.given_scales import GivenScales
from modelc.ir.packing.kinds import KINDS, TABLE_KINDS
from modelc.ir.packing.packing import Packing
from modelc.ir.provenance import canonical_name, module_of, set_canonical_name
from modelc.ir.rounded import rounded
from modelc.ir.weights import StoredWeight
from modelc.passes.base import Pass
from modelc.passes.dynamic_rounding import Activations, round_dynamically
from modelc.passes.expanded_attention import (
    name_caches,
    round_operand,
    scale_queries,
    second_operands,
)
from modelc.passes.htp.qdq import dequantise, quantise
from modelc.passes.htp.quantised_weights import table_encoding, weight_encoding
from modelc.passes.htp.static import scope_in
from modelc.passes.htp.value_encodings import encodings_between, moved_by

GGML: Final[Mapping[str, Blocks]] = {"gguf": "gguf", "q8_0": "q8_0", "q4_0": "q4_0"}

# What the target is given rather than computes: only the results are rounded.
_GIVEN: Final = ("mask", "rope")


@dataclass(frozen=True)
class Simulate(Pass):
    """Rounds what the expanded graph computes. Every tensor keeps its name, under which it is
    what its codes stand for; `NAME.float` is what was rounded.

    Attributes:
        encodings: of the expanded graph's tensors, by name. One for the embedding's table may be
            among them.
        weights: module path -> kind of its weight (`ir.packing.kinds.KINDS`, `TABLE_KINDS` for the
            embedding, or GGML's `q8_0`, `q4_0` and `gguf`); a module takes the longest path that
            it is or lies in ("" has all in it), and stays float if there is none.
        scales: module path -> scales of its matrix, which count if they are of the matrix's kind.
        activations: `encoded` rounds every tensor, norms and biases as HTP does; others only the
            KV cache, if there are encodings of it, and the inputs of matrices that have a kind:
            not at all, or each token's by its own largest magnitude; int8 as the CPU's MatMulNBits
            does, by that of each of its blocks.
        gguf: how a matrix of the kind `gguf` keeps its blocks, as for `passes.cpu.pack_weights`.
    """

    encodings: Mapping[str, Encoding] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    scales: Mapping[str, GivenScales] = field(default_factory=dict)
    activations: Activations = "encoded"
    gguf: Gguf = "exact"
    name: ClassVar[str] = "simulate"
    before: ClassVar[Stage] = "expanded"
    after: ClassVar[Stage] = "simulated"

    def apply(self, model: ir.Model) -> ir.Model:
        graph = model.graph
        name_caches(graph)
        if self.activations == "encoded":
            scale_queries(graph)
        else:
            round_dynamically(graph, self.activations, self.kind_of, self._block_of)
        tables = self._round_weights(graph)
        chosen = self._encodings(graph, tables)
        computed = [
            (node, value)
            for value, encoding in chosen.items()
            if (node := value.producer()) and not _only_moves(node, encoding, chosen)
        ]
        operands = second_operands(graph, chosen) if self.activations == "encoded" else []
        for node, value in computed:
            _round_output(graph, node, value, chosen[value])
        for node, encoding in operands:
            round_operand(graph, node, encoding)
        return model

    def kind_of(self, module: str) -> str:
        """Return the kind of a module's weight, "" if it stays float, as routers of experts do."""
        if is_router(module):
            return ""
        while module and module not in self.weights:
            module = module.rpartition(".")[0]
        return self.weights.get(module, "")

    def _round_weights(self, graph: ir.Graph) -> dict[ir.Value, Encoding]:
        """Round all; return the encodings of tables that have one."""
        tables = {}
        for value in graph.initializers.values():
            weight = value.const_value
            if not isinstance(weight, StoredWeight):
                continue
            node = next(iter(value.consumers()))
            module = module_of(node)
            kind, is_table = self.kind_of(module), node.op_type == "Gather"
            if is_table and kind in TABLE_KINDS:
                tables[value] = table_encoding(value, TABLE_KINDS[kind], self.encodings)
                value.const_value = rounded(weight, tables[value])
            elif is_table or node.op_type == "MatMul":
                if kind:
                    gguf: Gguf = "exact" if is_table else self.gguf
                    value.const_value = self._rounded(weight, kind, module, gguf)
            elif self.activations == "encoded":
                value.const_value = rounded(weight, weight_encoding(value, "uint16"))
        return tables

    def _rounded(self, weight: StoredWeight, kind: str, module: str, gguf: Gguf) -> StoredWeight:
        """Return a matrix as its codes of a kind, which it may consist of already."""
        if kind in GGML:
            packing = choose_packing(weight.source.format, GGML[kind], gguf)
            if packing is None:
                return weight
            return rounded(weight, packing.form if isinstance(packing, FormPacking) else packing)
        given = self.scales.get(module)
        return rounded(weight, KINDS[kind], given if given and given.kind == kind else None)

    def _block_of(self, node: ir.Node) -> int | None:
        """Return how much of a token MatMulNBits rounds at once to int8; small floats are whole
        tokens'."""
        if self.activations != "int8_dynamic":
            return 0
        weight = node.inputs[1]
        assert weight is not None and isinstance(weight.const_value, StoredWeight)
        source, kind = weight.const_value.source, self.kind_of(module_of(node))
        packing: Packing | None
        if kind in GGML:
            packing = choose_packing(source.format, GGML[kind], self.gguf)
        else:
            packing = form_packing(KINDS[kind], source.shape[-1])
        return packing.layout.block_size if packing else None

    def _encodings(
        self, graph: ir.Graph, tables: Mapping[ir.Value, Encoding]
    ) -> dict[ir.Value, Encoding]:
        """Return the encoding of every value that is rounded."""
        nodes = [node for node in graph if module_of(node) not in _GIVEN]
        if self.activations == "encoded":
            return encodings_between([*graph.inputs, *_given(graph)], nodes, self.encodings, tables)
        known = ((value, self.encodings.get(canonical_name(value))) for value in graph.outputs)
        return {value: found for value, found in known if found and value.name != "logits"}


def _given(graph: ir.Graph) -> Iterator[ir.Value]:
    """Yield the masks and rotary tables that layers read."""
    for node in graph:
        if module_of(node) in _GIVEN:
            for value in node.outputs:
                if any(module_of(reader) not in _GIVEN for reader in value.consumers()):
                    yield value


def _only_moves(node: ir.Node, encoding: Encoding, chosen: Mapping[ir.Value, Encoding]) -> bool:
    """Return whether what a node makes are numbers that this encoding has already."""
    moved = moved_by(node)
    return bool(moved) and all(chosen.get(source) == encoding for source in moved)


def _round_output(graph: ir.Graph, node: ir.Node, value: ir.Value, encoding: Encoding) -> None:
    """Let all that read `value` read what its codes stand for, which takes over its name."""
    name, uses = str(value.name), list(value.uses())
    scope = scope_in(graph, module_of(node))
    value.name = node.name = f"{name}.float"
    result = dequantise(scope, quantise(scope, value, encoding, name), encoding, name)
    result.name = name
    set_canonical_name(result, canonical_name(value))
    for reader, index in uses:
        reader.replace_input_with(index, result)
    if value.is_graph_output():
        graph.outputs[graph.outputs.index(value)] = result
    graph.insert_after(node, scope.sheet.nodes)
