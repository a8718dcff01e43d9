"""Forms that no definition has, but ONNX Runtime takes, and so people's files have them."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from modelc.frontends.onnx.draft import Rewrite, sizes_of


def range_(node: ir.Node, rewrite: Rewrite) -> Sequence[ir.Value] | None:
    """Range of tensors of one element in place of scalars, as exporters wrote it."""
    listed = [sizes_of(value) == (1,) for value in node.inputs]
    if not any(listed):
        return None
    scalar = rewrite.integers([], "scalar")
    return rewrite.again(
        [
            rewrite.emit("Reshape", [value, scalar]) if is_list else value
            for value, is_list in zip(node.inputs, listed, strict=True)
        ]
    )
