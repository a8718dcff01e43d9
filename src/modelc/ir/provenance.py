"""Where a node came from: the module path of the source model, kept through every pass."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

MODULE = "modelc.module"  # key in a node's metadata_props
TENSOR = "modelc.tensor"  # key in a value's metadata_props


def module_of(node: ir.Node) -> str:
    """Return the module path of a node ("" where none is recorded)."""
    return node.metadata_props.get(MODULE, "")


def set_module(node: ir.Node, module: str) -> None:
    node.metadata_props[MODULE] = module


def inherit(new: Iterable[ir.Node], *sources: ir.Node) -> None:
    """Give new nodes the module paths of the nodes they replace, those of fused ones joined by
    "+"."""
    paths: dict[str, None] = {}
    for source in sources:
        for path in module_of(source).split("+"):
            paths.setdefault(path)
    joined = "+".join(path for path in paths if path)
    for node in new:
        set_module(node, joined)


def canonical_name(value: ir.Value) -> str:
    """Return the name under which a value is known in the expanded graph, and so has encodings."""
    return value.metadata_props.get(TENSOR, str(value.name))


def set_canonical_name(value: ir.Value, name: str) -> None:
    """Say that a value with another name is, or is part of, the expanded graph's `name`."""
    value.metadata_props[TENSOR] = name
