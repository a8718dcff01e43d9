"""The card's contract: a KV cache of fixed length that stays on the card between calls.

New keys and values are written at the positions of their tokens, and read back up to the last
position of each sequence. Position -1 is padding: nothing is written for it, and it sees nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from modelc.ir.emit import Scope, Sheet, dims_of, new_value
from modelc.ir.legality import Stage
from modelc.ir.provenance import module_of, set_canonical_name
from modelc.passes.base import Pass
from modelc.passes.qaic import functions
from modelc.passes.qaic.clip import HALF_MIN
from modelc.passes.qaic.positions import Positions, write_positions

_CACHE: Final = re.compile(r"past_key_values\.(\d+)\.(key|value)")
_MASK: Final = re.compile(r"mask\.(full|window\.\d+)")
_SYMBOL: Final = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class CardContract(Pass):
    """Inputs, outputs, cache and masks as the card's runtime feeds them.

    Attributes:
        continuous_batching: caches hold `full_batch_size` sequences; the new input `batch_index`
            int64 [batch_size, 1] says whose tokens these are.
        comp_ctx_lengths: the length of the new input of this name, int64 [comp_ctx_lengths], is
            how many positions attention looks at.
        opset: of the default domain.
    """

    continuous_batching: bool = False
    comp_ctx_lengths: bool = False
    opset: int = functions.OPSET
    name: ClassVar[str] = "card_contract"
    before: ClassVar[Stage] = "qaic"
    after: ClassVar[Stage] = "qaic"

    def apply(self, model: ir.Model) -> ir.Model:
        graph = model.graph
        length = "comp_ctx_lengths" if self.comp_ctx_lengths else "ctx_len"
        _rename_symbols(graph, length)
        ids, position_ids, *caches = graph.inputs
        caches, more = _split(caches)
        slots = "full_batch_size" if self.continuous_batching else "batch_size"
        for past in caches:
            _make_state(past, slots)
        extra = []
        lengths = batch_index = None
        if self.comp_ctx_lengths:
            lengths = new_value(length, [length], ir.DataType.INT64)
            extra.append(lengths)
        if self.continuous_batching:
            batch_index = new_value("batch_index", ["batch_size", 1], ir.DataType.INT64)
            extra.append(batch_index)

        cache = Scope("cache", Sheet(initializers=graph.initializers))
        known = write_positions(cache, position_ids, caches[0], lengths, batch_index)
        graph.insert_before(graph[0], cache.sheet.nodes)
        _replace_masks(graph, known)
        outputs = [graph.outputs[0]]
        for past, present in zip(caches, graph.outputs[1:], strict=True):
            outputs.append(self._keep(graph, past, present, known))
        graph.inputs[:] = [ids, position_ids, *caches, *extra, *more]
        graph.outputs[:] = outputs
        RemoveUnusedNodesPass()(model)
        functions.add_functions(model, self.opset)
        return model

    def _keep(
        self, graph: ir.Graph, past: ir.Value, present: ir.Value, known: Positions
    ) -> ir.Value:
        """Write the new keys or values of a layer into its state, and read back what attention
        looks at; return the state."""
        concat = present.producer()
        assert concat is not None and concat.op_type == "Concat"
        new = concat.inputs[1]
        scope = Scope(module_of(concat), Sheet(initializers=graph.initializers))
        kind = "key" if str(past.name).startswith("past_key") else "value"
        state = new_value(f"{past.name}_RetainedState", dims_of(past))
        set_canonical_name(state, str(present.name))
        by_slot = [known.batch_index] if known.batch_index is not None else []
        scatter = functions.SCATTER_BATCHED if by_slot else functions.SCATTER
        gather = functions.GATHER_BATCHED if by_slot else functions.GATHER
        scope.emit_many(
            scatter, [past, *by_slot, known.written, new], [state], domain=functions.CLOUD
        )
        count = [known.length] if functions.gathers_know_length(self.opset) else []
        dims = dims_of(present)
        read = scope.emit(
            gather, [state, *by_slot, known.read, *count], dims, f"{kind}s_read",
            domain=functions.CLOUD,
        )  # fmt: skip
        if kind == "value":  # a chance of 0 times what was never written need not be 0
            nought = scope.constant("cache.nought", np.array(0, np.float32))
            read = scope.emit("Where", [known.unwritten, nought, read], dims, "values_known")
        graph.insert_before(concat, scope.sheet.nodes)
        present.replace_all_uses_with(read, replace_graph_outputs=True)
        graph.remove(concat, safe=True)
        return state


def _split(values: list[ir.Value]) -> tuple[list[ir.Value], list[ir.Value]]:
    """Return the caches and the other inputs behind them."""
    caches = [value for value in values if _CACHE.fullmatch(str(value.name))]
    return caches, [value for value in values if value not in caches]


def _make_state(past: ir.Value, slots: str) -> None:
    found = _CACHE.fullmatch(str(past.name))
    assert found
    set_canonical_name(past, f"present.{found[1]}.{found[2]}")
    past.name = f"past_{found[2]}.{found[1]}"
    _, heads, _, width = dims_of(past)
    past.shape = ir.Shape([slots, heads, "ctx_len", width])


def _rename_symbols(graph: ir.Graph, length: str) -> None:
    """Call sizes as the card's tools do."""
    names = {"batch": "batch_size", "sequence": "seq_len"}

    def renamed(dim: int | str) -> int | str:
        if isinstance(dim, int):
            return dim
        if dim == "past + sequence":
            return length
        return _SYMBOL.sub(lambda found: names.get(found[0], found[0]), dim)

    for value in (*graph.inputs, *(value for node in graph for value in node.outputs)):
        value.shape = ir.Shape([renamed(dim) for dim in dims_of(value)])


def _replace_masks(graph: ir.Graph, known: Positions) -> None:
    """Scores that a query may not see are replaced, not added to: the sum would overflow in fp16,
    and what was never written may be no number."""
    made: dict[str, ir.Value] = {}
    scope = Scope("mask", Sheet(initializers=graph.initializers))
    hidden = scope.constant("mask.hidden_score", np.array(HALF_MIN, np.float32))
    for node in list(graph):
        mask = node.inputs[1] if node.op_type == "Add" else None
        found = _MASK.fullmatch(str(mask.name)) if mask is not None else None
        if not found:
            continue
        name, scores = found[1], node.inputs[0]
        if name not in made:
            made[name] = known.visible(scope, name)
        at = Scope(module_of(node), Sheet(initializers=graph.initializers))
        assert scores is not None
        masked = at.emit("Where", [made[name], scores, hidden], dims_of(scores), "seen")
        ir.convenience.replace_nodes_and_values(
            graph, node, [node], at.sheet.nodes, node.outputs, [masked]
        )
    graph.insert_before(_first_reader(graph, made), scope.sheet.nodes)


def _first_reader(graph: ir.Graph, masks: Mapping[str, ir.Value]) -> ir.Node:
    readers = {user for mask in masks.values() for user in mask.consumers()}
    return next(node for node in graph if node in readers)
