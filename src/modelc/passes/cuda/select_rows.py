"""Only the tokens whose logits are wanted go through the head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from modelc.errors import ModelcError
from modelc.ir.emit import dims_of, new_value
from modelc.ir.legality import Stage
from modelc.passes.base import Pass
from modelc.passes.cpu.contrib import scope_at
from modelc.passes.cpu.linears import linears
from modelc.passes.cuda.dialect import DOMAIN

WANTED = "wanted"


@dataclass(frozen=True)
class SelectRows(Pass):
    """A new input `wanted` int32 [rows]: the tokens of the call whose logits are computed."""

    name: ClassVar[str] = "select_rows"
    before: ClassVar[Stage] = "cuda"
    after: ClassVar[Stage] = "cuda"

    def apply(self, model: ir.Model) -> ir.Model:
        graph = model.graph
        layers = list(linears(graph))
        if not layers:
            raise ModelcError("there is no head before which rows could be selected")
        head = layers[-1]
        wanted = new_value(WANTED, ["rows"], ir.DataType.INT32)
        graph.inputs.insert(2, wanted)
        scope = scope_at(graph, head.nodes[0])
        width = dims_of(head.x)[-1]
        rows = scope.emit("SelectRows", [head.x, wanted], ["rows", width], "rows", domain=DOMAIN)
        graph.insert_before(head.nodes[0], scope.sheet.nodes)
        head.nodes[0].replace_input_with(0, rows)
        late, seen = [rows], set()
        while late:
            for node in late.pop().consumers():
                if node not in seen:
                    seen.add(node)
                    for value in node.outputs:
                        value.shape = ir.Shape(["rows", *dims_of(value)[1:]])
                        late.append(value)
        return model
