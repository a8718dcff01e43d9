"""Dead code: nodes that nobody reads, initialisers that no node reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from modelc.ir.legality import Stage
from modelc.passes.base import Pass


@dataclass(frozen=True)
class RemoveDeadCode(Pass):
    """What no output depends on goes; the graph's inputs stay, read or not."""

    name: ClassVar[str] = "remove_dead_code"
    before: ClassVar[Stage] = "network"
    after: ClassVar[Stage] = "network"

    def apply(self, model: ir.Model) -> ir.Model:
        sweep(model)
        return model


def sweep(model: ir.Model) -> None:
    """Remove what no output depends on."""
    RemoveUnusedNodesPass()(model)
