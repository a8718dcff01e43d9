"""Which module a node of an exported network came from.

Exporters leave it in different places: PyTorch's newer one in metadata, its older one and
TensorFlow's in the names of nodes, and those that write functions in the names of the calls.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

import onnx_ir as ir

from modelc.ir.provenance import module_of, set_module

SCOPES: Final = "pkg.torch.onnx.name_scopes"
"""Key of PyTorch's exporter: "['', 'encoder', 'encoder.layer.0', 'linear']", the last of which is
the node itself."""

CALL: Final = "modelc.call"
"""Key of a node that was in a function or in a branch: the module path of the node that had it."""

LONGEST: Final = 1 << 16  # a metadata entry that is worth parsing


def name_modules(nodes: Iterable[ir.Node]) -> None:
    """Give every node that has none its module path, never an empty one."""
    for node in nodes:
        if not module_of(node):
            set_module(node, path_of(node))
        # What else exporters leave is long, and names files of the machine that it ran on.
        module = module_of(node)
        node.metadata_props.clear()
        node.doc_string = None
        set_module(node, module)


def path_of(node: ir.Node) -> str:
    """Return the module path as the node itself says it."""
    if scopes := _scopes(node.metadata_props.get(SCOPES, "")):
        return scopes
    call = node.metadata_props.get(CALL, "")
    own = _from_name(node.name or "")
    if call:
        return own if f"{own}.".startswith(f"{call}.") else f"{call}.{own}".rstrip(".")
    if own:
        return own
    name = node.name or next((value.name for value in node.outputs if value.name), "")
    return ".".join(part for part in str(name).split("/") if part) or node.op_type


def called(node: ir.Node) -> str:
    """Return the module path that a call of a function stands for: the call has the module's own
    name, so that nothing of it is left out."""
    if scopes := _scopes(node.metadata_props.get(SCOPES, "")):
        return scopes
    own = _join((node.name or node.op_type).strip("/").split("/"))
    outer = node.metadata_props.get(CALL, "")
    return f"{outer}.{own}" if outer else own


def _scopes(text: str) -> str:
    """("['', 'encoder', 'encoder.layer.0', 'linear']") -> "encoder.layer.0"; "" if it is none."""
    if not text.startswith("[") or len(text) > LONGEST:
        return ""
    try:
        scopes = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ""
    if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
        return ""
    return next((scope for scope in reversed(scopes[:-1]) if scope), "")


def _from_name(name: str) -> str:
    """("/encoder/layer.0/self/MatMul_1") -> "encoder.layer.0.self"; "" for a name without "/"."""
    parts = [part for part in name.split("/") if part]
    return _join(parts[:-1])


def _join(parts: list[str]) -> str:
    """Join scopes; a module within a called container repeats its name ("layer1/layer1.0")."""
    kept = [a for a, b in pairwise([*parts, ""]) if not re.match(re.escape(a) + r"\.", b)]
    return ".".join(kept)
