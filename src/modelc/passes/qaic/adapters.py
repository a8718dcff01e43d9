"""Several LoRA adapters in one graph, each sequence with one of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import onnx_ir as ir

from modelc.decoder.adapter import Adapter, LowRank
from modelc.errors import BadInput, Where
from modelc.ir.emit import Scope, Sheet, dims_of, new_value
from modelc.ir.legality import Stage
from modelc.ir.provenance import module_of
from modelc.ir.weights import DerivedWeight
from modelc.passes.base import Pass

LORA_IDS: Final = "lora_ids"


@dataclass(frozen=True)
class AddAdapters(Pass):
    """A new input `lora_ids` int64 [batch, 1]: 0 for the decoder as it is, i for the i-th adapter.

    Attributes:
        adapters: in that order; a module that one of them doesn't change gets zeros from it, and
            ranks are filled up with zeros to the largest.
    """

    adapters: tuple[Adapter, ...] = ()
    name: ClassVar[str] = "add_adapters"
    before: ClassVar[Stage] = "canonical"
    after: ClassVar[Stage] = "canonical"

    def apply(self, model: ir.Model) -> ir.Model:
        if not self.adapters:
            return model
        graph = model.graph
        chosen = new_value(LORA_IDS, ["batch", 1], ir.DataType.INT64)
        graph.inputs.append(chosen)
        results = {str(value.name): value for node in graph for value in node.outputs}
        for module in sorted({name for adapter in self.adapters for name in adapter.layers}):
            rows = [adapter.layers.get(module) for adapter in self.adapters]
            if module not in results:
                raise BadInput(
                    "adapters change a layer that the decoder hasn't", where=Where(module=module)
                )
            _add(graph, results[module], rows, chosen)
        return model


def _add(graph: ir.Graph, result: ir.Value, rows: list[LowRank | None], chosen: ir.Value) -> None:
    """result + x @ down[id] @ up[id], the scale being part of `up`."""
    last = result.producer()
    assert last is not None
    module = module_of(last)
    product = next(n for n in graph if n.op_type == "MatMul" and module_of(n) == module)
    source = product.inputs[0]
    assert source is not None
    sizes = (dims_of(source)[-1], dims_of(result)[-1])
    for row in rows:
        if row is not None and (row.down.shape[1], row.up.shape[0]) != sizes:
            raise BadInput(
                f"an adapter is of {row.down.shape[1]} to {row.up.shape[0]}, the layer of "
                f"{sizes[0]} to {sizes[1]}",
                where=Where(module=module),
            )
    scope = Scope(module, Sheet(initializers=graph.initializers))
    rank = max(row.rank for row in rows if row is not None)
    down = _chosen(scope, _stack(rows, rank, "down", module), chosen)
    up = _chosen(scope, _stack(rows, rank, "up", module), chosen)
    narrow = scope.emit("MatMul", [source, down], [*dims_of(source)[:-1], rank], "lora.narrow")
    wide = scope.emit("MatMul", [narrow, up], dims_of(result), "lora")
    total = scope.emit("Add", [result, wide], dims_of(result), "adapted")
    graph.insert_after(last, scope.sheet.nodes)
    name, added = str(result.name), total.producer()
    for user, place in list(result.uses()):
        if user is not added:
            user.replace_input_with(place, total)
    result.name, total.name = f"{name}.base", name


def _chosen(scope: Scope, tensor: DerivedWeight, chosen: ir.Value) -> ir.Value:
    """Look up one of the stacked matrices for each sequence: [batch, rows, columns]."""
    stack, name = scope.tensor(tensor), str(tensor.name).removeprefix(f"{scope.module}.")
    _, *matrix = dims_of(stack)
    axis = scope.constant("lora.axis", np.array([1], np.int64))
    rows = scope.emit("Gather", [stack, chosen], ["batch", 1, *matrix], f"{name}.rows", axis=0)
    return scope.emit("Squeeze", [rows, axis], ["batch", *matrix], f"{name}.chosen")


def _stack(rows: list[LowRank | None], rank: int, which: str, module: str) -> DerivedWeight:
    """The adapters' matrices for x @ down @ up behind zeros, float32 [adapters + 1, ...]."""
    known = [row for row in rows if row is not None]
    width = known[0].down.shape[1] if which == "down" else known[0].up.shape[0]
    shape = (len(rows) + 1, *((width, rank) if which == "down" else (rank, width)))

    def make() -> np.ndarray:
        stacked = np.zeros(shape, np.float32)
        for place, row in enumerate(rows, 1):
            if row is not None and which == "down":
                stacked[place, :, : row.rank] = row.down.decode().T
            elif row is not None:
                stacked[place, : row.rank] = row.up.decode().T * np.float32(row.scale)
        return stacked

    sources = [row.down if which == "down" else row.up for row in known]
    places = [0 if row is None else row.scale for row in rows]
    how = f"lora {which} of {rank}, scaled {places}"
    name = f"{module}.lora.{which}"
    return DerivedWeight(sources, how, make, ir.DataType.FLOAT, shape, name)
