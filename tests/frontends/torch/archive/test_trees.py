"""Tree specifications are those that PyTorch writes, without its classes."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Any

import pytest

from modelc.errors import BadInput
from modelc.frontends.torch.archive.trees import Leaf, leaves, read_tree, write_tree


def node(kind: str | None, context: object, *children: Any) -> dict[str, Any]:
    return {"type": kind, "context": context, "children_spec": list(children)}


LEAF = node(None, None)


def test_containers_of_python() -> None:
    pytree = pytest.importorskip("torch.utils._pytree", reason="needs PyTorch, which writes them")
    value = ((1, [2]), {"a": 3, "b": (4,)}, OrderedDict(z=5))
    spec = pytree.tree_structure(value)
    tree = read_tree(pytree.treespec_dumps(spec), {})
    assert tree == ((Leaf(0), [Leaf(1)]), {"a": Leaf(2), "b": (Leaf(3),)}, {"z": Leaf(4)})
    again = pytree.treespec_loads(write_tree(tree))
    assert pytree.tree_unflatten([1, 2, 3, 4, 5], again) == value
    assert list(leaves(tree))[1:4] == [(0, 1, 0), (1, "a"), (1, "b", 0)]


def test_classes_become_dicts() -> None:
    output = node("transformers.modeling_outputs.BaseModelOutput", '["last", "pooled"]', LEAF, LEAF)
    assert read_tree(json.dumps([1, output]), {}) == {"last": Leaf(0), "pooled": Leaf(1)}
    record = node("mine.Record", '[["a"], ["b"]]', LEAF)
    assert read_tree(json.dumps([1, record]), {}) == {"a": Leaf(0)}
    pair = node("collections.namedtuple", "mine.Pair", LEAF, LEAF)
    fields = {"mine.Pair": {"field_names": ["left", "right"]}}
    assert read_tree(json.dumps([1, pair]), fields) == {"left": Leaf(0), "right": Leaf(1)}


DEEP: dict[str, Any] = LEAF
for _ in range(40):
    DEEP = node("builtins.tuple", "null", DEEP)


@pytest.mark.parametrize(
    "written",
    [
        "no JSON",
        json.dumps([2, LEAF]),
        json.dumps([1]),
        json.dumps([1, node("builtins.dict", '["a", "a"]', LEAF, LEAF)]),
        json.dumps([1, node("builtins.dict", '["a"]', LEAF, LEAF)]),
        json.dumps([1, node("builtins.dict", "[\"a']; import os; L['\"]", LEAF)]),
        json.dumps([1, node("builtins.dict", '[{"__enum__": true, "fqn": "os:environ"}]', LEAF)]),
        json.dumps([1, node("collections.defaultdict", '{"default_factory_module": "os"}', LEAF)]),
        json.dumps([1, node(None, None, LEAF)]),
        json.dumps([1, DEEP]),
        "[" * 100000,
        7,
    ],
)
def test_anything_else_is_refused(written: object) -> None:
    with pytest.raises(BadInput, match="the exported program has"):
        read_tree(written, {})
