"""A whole program of an archive: checked, its sizes fixed, with the names of what it gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from modelc.errors import BadInput
from modelc.frontends.torch.archive.graph import read_graph
from modelc.frontends.torch.archive.signature import read_signature
from modelc.frontends.torch.archive.sizes import Lengths, Sizes, check_given, shown, symbols_of
from modelc.frontends.torch.archive.tensors import shape_of
from modelc.frontends.torch.archive.trees import Leaf, Tree, leaves, read_tree, write_tree
from modelc.frontends.torch.archive.values import (
    IDENTIFIER,
    PRINTABLE,
    items,
    mapping,
    members,
    one_of,
    refused,
    text,
    union,
    whole,
)

SCHEMA: Final = 8
"""The version of torch's schema, torch/_export/serde/schema.py, whose changes break readers."""

_VERIFIERS: Final = frozenset({"ATEN", "TRAINING"})
_PROGRAM: Final = (
    "graph_module", "opset_version", "range_constraints", "schema_version", "verifiers",
    "torch_version", "guards_code",
)  # fmt: skip
_MODULE: Final = (
    "graph", "signature", "module_call_graph", "metadata", "treespec_namedtuple_fields",
)  # fmt: skip


@dataclass(frozen=True)
class Program:
    """What PyTorch may read.

    Attributes:
        json: as in `models/NAME.json`.
        results: the results by their place in what the program returns; a leaf's number is that of
            the output, None what is no tensor.
    """

    json: dict[str, Any]
    results: Tree


def read_program(document: Mapping[str, Any], dims: Mapping[str, int]) -> Program:
    """Return a program whose open sizes are fixed.

    Args:
        dims: sizes by symbol.

    Raises:
        BadInput: something isn't known to be harmless; a size is missing, not known, out of the
            program's range or against a guard.
    """
    found = members(document, "a program", *_PROGRAM)
    version = members(found["schema_version"], "a version", "major", "minor")
    if version["major"] != SCHEMA:
        raise BadInput(
            f"the program is of version {version['major']!r} of torch's schema, not {SCHEMA}",
            hint="save it with torch.export.save of torch 2.13; or write a function that returns "
            "torch.export.load(...), if you trust it, and give FILE.py:FUNCTION",
        )
    module = members(found["graph_module"], "a program", *_MODULE)
    known = open_sizes(module["graph"])
    if inner := sorted(name for name in known if not name.startswith("s")):
        raise BadInput(
            f"a size or a factor of the exported program depends on data: {inner[0]}",
            hint="export it without .item(), nonzero or masks as indices; or give the module "
            "itself by FILE.py:FUNCTION",
        )
    check_given(dims, known)
    _check_ranges(mapping(found["range_constraints"] or {}, "ranges"), dims)
    sizes = Sizes(dims)
    graph = read_graph(module["graph"], sizes)
    signature, outputs = read_signature(module["signature"])
    call, taken, given = _read_call(module)
    lengths = _lengths(call["forward_arg_names"] or [], taken, signature, graph)
    for guard in items(found["guards_code"] or [], "guards"):
        if not sizes.holds(guard, lengths):
            raise BadInput(
                f"the sizes don't fit the exported program, which takes {guard!r:.200} for true",
                hint="give other sizes by --dim, or export the program for these",
            )
    if len(list(leaves(given))) != len(outputs):
        raise refused("the number of results", len(outputs))
    return Program(
        {
            "graph_module": {
                "graph": graph,
                "signature": signature,
                "module_call_graph": [{"fqn": "", "signature": call}],
            },
            "opset_version": {},
            "range_constraints": {},
            "schema_version": {"major": SCHEMA, "minor": whole(version["minor"], "a version", 0)},
            "verifiers": [
                one_of(name, "a verifier", _VERIFIERS)
                for name in items(found["verifiers"] or [], "verifiers")
            ],
            "guards_code": [],
        },
        _without(given, {place for place, is_tensor in enumerate(outputs) if not is_tensor}),
    )


def open_sizes(graph: Any) -> dict[str, str]:
    """Return the symbols of a graph as torch wrote it, and where inputs have each, in order."""
    places: dict[str, list[str]] = {}
    for expression in _expressions(graph):
        for symbol in symbols_of(expression):
            places.setdefault(symbol, [])
    for name, shape in input_shapes(graph).items():
        for axis, size in enumerate(shape):
            for symbol in symbols_of(size) if isinstance(size, str) else ():
                whole_size = shown(size)
                end = "" if whole_size == symbol else f" is {whole_size}"
                places[symbol].append(f"axis {axis} of {name}{end}")
    order = sorted(places, key=lambda name: (not places[name], name))
    return {name: ", ".join(places[name][:4]) or "no input's" for name in order}


def input_shapes(graph: Any) -> dict[str, list[int | str]]:
    """Return the sizes of what a graph as torch wrote it takes, weights among them, by name: a
    number, or an expression."""
    found = mapping(graph, "a graph")
    tensors = mapping(found.get("tensor_values"), "tensors")
    shapes: dict[str, list[int | str]] = {}
    for item in items(found.get("inputs"), "inputs"):
        tensor = mapping(item, "an input").get("as_tensor")
        if tensor is None:
            continue
        name = text(members(tensor, "an input", "name")["name"], "the name of an input")
        meta = mapping(tensors.get(name), "a tensor")
        shapes[name] = [_size(size) for size in items(meta.get("sizes"), "sizes of a tensor")]
    return shapes


def _size(value: Any) -> int | str:
    kind, inner = union(value, "a size", ("as_int", "as_expr"))
    if kind == "as_int":
        return whole(inner, "a size", 0)
    return text(members(inner, "a size", "expr_str", "hint")["expr_str"], "a size", PRINTABLE)


def _expressions(value: Any) -> Iterator[str]:
    """Yield the text of every expression in a JSON value; parse_json has bounded its depth."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case {"expr_str": expression}:
                yield expression
            case dict() as inner:
                waiting.extend(inner.values())
            case list() as inner:
                waiting.extend(inner)


def _check_ranges(ranges: Mapping[str, Any], dims: Mapping[str, int]) -> None:
    for name, value in ranges.items():
        found = members(value, "a range", "min_val", "max_val")
        low, high = (
            None if found[key] is None else whole(found[key], "a range")
            for key in ("min_val", "max_val")
        )
        if name in dims and not (low or 0) <= dims[name] <= (dims[name] if high is None else high):
            raise BadInput(
                f"--dim {name}={dims[name]} is out of the range that the program was exported "
                f"for: {low or 0} to {'any' if high is None else high}"
            )


def _read_call(module: Mapping[str, Any]) -> tuple[dict[str, Any], Tree, Tree]:
    """Return how the program is called, and the trees of its arguments and results."""
    calls = items(module["module_call_graph"], "calls of modules")
    whole_call = members(calls[0] if calls else None, "a call of modules", "fqn", "signature")
    found = members(
        whole_call["signature"],
        "the call of the program",
        *("inputs", "outputs", "in_spec", "out_spec", "forward_arg_names"),
    )
    fields = mapping(module["treespec_namedtuple_fields"] or {}, "fields of named tuples")
    taken, given = (read_tree(found[key], fields) for key in ("in_spec", "out_spec"))
    names = found["forward_arg_names"]
    return (
        {
            "inputs": [],
            "outputs": [],
            "in_spec": write_tree(taken),
            "out_spec": write_tree(given),
            "forward_arg_names": None
            if names is None
            else [text(name, "an argument", IDENTIFIER) for name in items(names, "arguments")],
        },
        taken,
        given,
    )


def _lengths(
    names: list[str], taken: Tree, signature: Mapping[str, Any], graph: Mapping[str, Any]
) -> Lengths:
    """Return the shapes of the inputs by where a guard finds them: by the name of the argument."""
    if not isinstance(taken, tuple) or [type(part) for part in taken] != [tuple, dict]:
        raise refused("a tree of arguments", "one that is no call")
    inputs = [
        next(iter(item.values()))
        for item in signature["input_specs"]
        if {"user_input", "constant_input"} & set(item)
    ]
    places = list(leaves(taken))
    if len(places) != len(inputs):
        raise refused("the number of inputs", len(inputs))
    found: dict[tuple[str | int, ...], tuple[int, ...]] = {}
    for (group, first, *rest), taker in zip(places, inputs, strict=True):
        name = taker.get("arg", {}).get("as_tensor", {}).get("name")
        by_place = group == 0 and isinstance(first, int) and first < len(names)
        key = names[first] if by_place and isinstance(first, int) else first
        if name is not None and name in graph["tensor_values"]:
            found[(key, *rest)] = shape_of(graph["tensor_values"][name])
    return found


def _without(tree: Tree, places: set[int]) -> Tree:
    """Return a tree with None for some leaves."""
    if isinstance(tree, Leaf):
        return None if tree.index in places else tree
    if isinstance(tree, dict):
        return {key: _without(child, places) for key, child in tree.items()}
    return type(tree)([_without(child, places) for child in tree])
