"""Operators that cut off what their input's codes then need not reach."""

from __future__ import annotations

from typing import Final

import onnx_ir as ir

CUTS: Final = frozenset({"Relu", "Clip"})


def cut_of(value: ir.Value) -> ir.Value | None:
    """Return what the Relu or Clip makes that alone reads a value, None if there is no such."""
    if value.is_graph_output() or len(value.uses()) != 1:
        return None
    (node,) = value.consumers()
    return node.outputs[0] if node.op_type in CUTS and node.inputs[0] is value else None
