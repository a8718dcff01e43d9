"""Tree specifications: how arguments and results lie in tuples, lists and dicts.

Classes of results (named tuples, data classes, transformers' outputs) become dicts of their fields,
so that PyTorch looks no class up.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from modelc.frontends.torch.archive.values import LITERAL, items, members, refused, text

PROTOCOL: Final = 1
_DEEPEST: Final = 32
_LONGEST: Final = 1 << 20
_TYPE: Final = re.compile(r"[A-Za-z0-9_.<>]{1,999}")
_SEQUENCES: Final[Mapping[str, type]] = {"builtins.tuple": tuple, "builtins.list": list}


@dataclass(frozen=True)
class Leaf:
    """The place of one argument or result."""

    index: int


Tree = Any
"""A Leaf, or a tuple, list or dict of trees."""


def read_tree(specification: Any, fields: Mapping[str, Any]) -> Tree:
    """Return the tree of a specification, its leaves numbered from left to right.

    Args:
        fields: of the program's named tuples, the names by class.

    Raises:
        BadInput: it is no specification, or has a container that is not known.
    """
    try:
        if not isinstance(specification, str) or len(specification) > _LONGEST:
            raise ValueError
        protocol, root = json.loads(specification)
    except (ValueError, TypeError, RecursionError) as error:
        raise refused("a tree of arguments", specification) from error
    if protocol != PROTOCOL:
        raise refused("the protocol of a tree", protocol)
    return _tree(root, fields, iter(range(_LONGEST)), _DEEPEST)


def _tree(node: Any, fields: Mapping[str, Any], places: Iterator[int], depth: int) -> Tree:
    if not depth:
        raise refused("a tree of arguments", "one that is too deep")
    found = members(node, "a tree of arguments", "type", "context", "children_spec")
    given = items(found["children_spec"], "a tree of arguments")
    if found["type"] is None:
        if given:
            raise refused("a leaf of arguments", node)
        return Leaf(next(places))
    kind = text(found["type"], "a container of arguments", _TYPE)
    children = [_tree(child, fields, places, depth - 1) for child in given]
    if kind in _SEQUENCES:
        return _SEQUENCES[kind](children)
    keys = _keys(found["context"], fields)
    if len(keys) != len(children) or len(set(keys)) != len(keys):
        raise refused(f"the keys of a {kind}", found["context"])
    return dict(zip(keys, children, strict=True))


def _keys(context: Any, fields: Mapping[str, Any]) -> list[str]:
    """Return the keys of a dict, the fields of a named tuple or of a data class."""
    if isinstance(context, str) and context in fields:
        context = json.dumps(
            members(fields[context], "fields of a named tuple", "field_names")["field_names"]
        )
    try:
        keys = json.loads(context)
    except (ValueError, TypeError, RecursionError) as error:
        raise refused("keys of arguments", context) from error
    if isinstance(keys, list) and len(keys) == 2 and all(isinstance(part, list) for part in keys):
        keys = keys[0]  # of a data class; the second are fields that are None
    return [text(key, "a key of arguments", LITERAL) for key in items(keys, "keys of arguments")]


def write_tree(tree: Tree) -> str:
    """Return the specification of a tree."""
    return json.dumps([PROTOCOL, _node(tree)])


def _node(tree: Tree) -> dict[str, Any]:
    if isinstance(tree, Leaf):
        return {"type": None, "context": None, "children_spec": []}
    if isinstance(tree, dict):
        return {
            "type": "builtins.dict",
            "context": json.dumps(list(tree)),
            "children_spec": [_node(child) for child in tree.values()],
        }
    return {
        "type": f"builtins.{type(tree).__name__}",
        "context": "null",
        "children_spec": [_node(child) for child in tree],
    }


def leaves(tree: Tree, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield where each leaf lies, from left to right."""
    if isinstance(tree, Leaf):
        yield path
        return
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, child in pairs:
        yield from leaves(child, (*path, key))
