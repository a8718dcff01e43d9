"""Graphs of an exported program, read into ones that hold nothing but numbers and known names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from modelc.errors import BadInput, Where
from modelc.frontends.torch.archive import operators
from modelc.frontends.torch.archive.sizes import Number, Sizes
from modelc.frontends.torch.archive.tensors import CPU, DTYPE_BYTES, STRIDED, read_meta
from modelc.frontends.torch.archive.values import (
    LITERAL,
    PRINTABLE,
    items,
    mapping,
    members,
    number,
    one_of,
    refused,
    text,
    truth,
    union,
    whole,
)

_DEEPEST: Final = 8

_GRAPH: Final = (
    "inputs", "outputs", "nodes", "tensor_values", "sym_int_values", "sym_bool_values",
    "is_single_tensor_return", "custom_obj_values", "sym_float_values",
)  # fmt: skip
_NODE: Final = ("target", "inputs", "outputs", "metadata", "is_hop_single_tensor_return", "name")

PLAIN: Final[Mapping[str, Callable[[Any], Any]]] = {
    "as_none": lambda value: truth(value, "no value"),
    "as_int": lambda value: whole(value, "an integer"),
    "as_float": lambda value: number(value, "a float"),
    "as_bool": lambda value: truth(value, "a flag"),
    "as_string": lambda value: text(value, "a text", LITERAL),
}
"""Constants, as arguments of operators and of the program."""

_ARGUMENTS: Final[Mapping[str, Callable[[Any], Any]]] = {
    **PLAIN,
    "as_ints": lambda value: [whole(one, "an integer") for one in items(value, "integers")],
    "as_floats": lambda value: [number(one, "a float") for one in items(value, "floats")],
    "as_bools": lambda value: [truth(one, "a flag") for one in items(value, "flags")],
    "as_scalar_type": lambda value: one_of(value, "a type of elements", DTYPE_BYTES),
    "as_memory_format": lambda value: one_of(value, "a memory format", {1, 2, 3, 4}),
    "as_layout": lambda value: one_of(value, "a layout", {STRIDED}),
    "as_device": lambda _: dict(CPU),
    "as_complex": lambda value: {
        part: number(members(value, "a complex number", "real", "imag")[part], "a float")
        for part in ("real", "imag")
    },
}

_SYMBOLIC: Final[Mapping[str, tuple[str, str, Callable[[Number], Any]]]] = {
    "as_sym_int": ("as_int", "as_ints", int),
    "as_sym_bool": ("as_bool", "as_bools", bool),
    "as_sym_float": ("as_float", "as_floats", float),
}
"""Kinds of values that are no tensors: what one and several become, and their type."""


TRAINS: Final = frozenset({"train", "training"})
"""What operators call the flag that they compute otherwise in training."""


@dataclass(frozen=True)
class Scope:
    """What is known while a graph is read.

    Attributes:
        tensors: descriptions of tensors by name.
        numbers: sizes, flags and factors by name.
        given: inputs of the graph.
        made: names that inputs and nodes before have given.
    """

    sizes: Sizes
    depth: int
    tensors: dict[str, Any]
    numbers: dict[str, Number]
    given: set[str] = field(default_factory=set)
    made: set[str] = field(default_factory=set)


def read_graph(value: Any, sizes: Sizes, depth: int = _DEEPEST) -> dict[str, Any]:
    """Return a graph whose symbolic sizes are numbers; the nodes that compute them are gone.

    Raises:
        BadInput: it has something that isn't known to be harmless, or its sizes break an assertion.
    """
    if not depth:
        raise refused("a graph", "one within too many others")
    found = members(value, "a graph", *_GRAPH)
    scope = Scope(
        sizes,
        depth,
        {
            text(name, "the name of a value"): read_meta(meta, sizes)
            for name, meta in mapping(found["tensor_values"], "tensors").items()
        },
        _read_numbers(found, sizes),
    )
    inputs = [_read_input(item, scope) for item in items(found["inputs"], "inputs")]
    nodes = [
        node
        for item in items(found["nodes"], "nodes")
        if (node := _read_node(item, scope)) is not None
    ]
    return {
        "inputs": inputs,
        "outputs": [_read_argument(item, scope) for item in items(found["outputs"], "outputs")],
        "nodes": nodes,
        "tensor_values": scope.tensors,
        "sym_int_values": _written(scope, "as_sym_int"),
        "sym_bool_values": _written(scope, "as_sym_bool"),
        "sym_float_values": _written(scope, "as_sym_float"),
        "is_single_tensor_return": truth(
            found["is_single_tensor_return"] or False, "is_single_tensor_return"
        ),
    }


def _read_numbers(found: Mapping[str, Any], sizes: Sizes) -> dict[str, Number]:
    made: dict[str, Number] = {}
    for kind, (plain, _, convert) in _SYMBOLIC.items():
        values = mapping(found[f"{kind.removeprefix('as_')}_values"] or {}, "sizes")
        for name, value in values.items():
            form, inner = union(value, "a size", (plain, "as_expr"))
            if form == "as_expr":
                inner = sizes.value(members(inner, "a size", "expr_str", "hint")["expr_str"])
                if convert(inner) != inner:
                    raise refused(f"the value of {name}", value)
            else:
                inner = float(PLAIN[plain](inner)) if convert is float else PLAIN[plain](inner)
            made[text(name, "the name of a size")] = convert(inner)
    return made


def _written(scope: Scope, kind: str) -> dict[str, Any]:
    plain, _, convert = _SYMBOLIC[kind]
    return {name: {plain: value} for name, value in scope.numbers.items() if type(value) is convert}


def _read_input(value: Any, scope: Scope) -> dict[str, Any]:
    """Return an input, whose name is made known."""
    kind, inner = union(value, "an input", ("as_tensor", *_SYMBOLIC, *PLAIN))
    if kind in PLAIN:
        return {kind: PLAIN[kind](inner)}
    key = "name" if kind == "as_tensor" else "as_name"
    name = text(members(inner, "an input", key)[key], "the name of an input")
    scope.given.add(name)
    return {kind: {key: _made(name, kind, scope)}}


def _made(name: str, kind: str, scope: Scope) -> str:
    """Note that a value is there from now on."""
    if name in scope.made or name not in (scope.tensors if kind == "as_tensor" else scope.numbers):
        raise refused("the name of a value", name)
    scope.made.add(name)
    return name


def _read_node(value: Any, scope: Scope) -> dict[str, Any] | None:
    """Return a node, None if it gives nothing but sizes that are known."""
    found = members(value, "a node", *_NODE)
    target = text(found["target"], "what a node calls", PRINTABLE)
    given = items(found["inputs"], "arguments of a node")
    if target == operators.ASSERTION:
        _check_assertion(given, scope)
        return None
    if target in operators.CONSTRAINTS:
        return None
    takes_graphs = operators.is_higher_order(target)
    symbolic = operators.SYMBOLIC.fullmatch(target) is not None
    if not (takes_graphs or symbolic or operators.is_tensor_operator(target)):
        raise _unknown(target)
    outputs = [_read_output(item, scope) for item in items(found["outputs"], "results of a node")]
    if symbolic:
        if any(not set(output) <= set(_SYMBOLIC) for output in outputs):
            raise refused(f"what {target} gives", found["outputs"])
        return None
    inputs = [_read_named(item, scope, takes_graphs) for item in given]
    first = inputs[0]["arg"].get("as_tensor", {}).get("name") if inputs else None
    if operators.works_in_place(target) and first in scope.given:
        raise changes(str(first))
    if any(item["name"] in TRAINS and item["arg"] == {"as_bool": True} for item in inputs):
        raise BadInput(
            f"the program was exported in the state for training: {target} trains",
            hint="call .eval() before torch.export.export",
        )
    node: dict[str, Any] = {
        "target": target,
        "inputs": inputs,
        "outputs": outputs,
        "metadata": _metadata(found["metadata"]),
        "name": None if found["name"] is None else text(found["name"], "the name of a node"),
    }
    if (alone := found["is_hop_single_tensor_return"]) is not None:
        node["is_hop_single_tensor_return"] = truth(alone, "is_hop_single_tensor_return")
    return node


def _unknown(target: str) -> BadInput:
    return BadInput(
        f"the exported program calls {target[:80]!r}, which is not among the operators that are "
        "read from archives",
        hint="if you trust it, write a function that returns torch.export.load(...), and give "
        "FILE.py:FUNCTION",
    )


def changes(name: str) -> BadInput:
    """Return the error (not raised) for a program that changes what it was given."""
    return BadInput(
        f"the exported program changes its input, weight or buffer {name}",
        where=Where(module=name),
        hint="call .eval() before torch.export.export; take state as an input, and return it",
    )


def _check_assertion(given: list[Any], scope: Scope) -> None:
    named = [members(item, "an argument", "name", "arg", "kind") for item in given]
    holds = _read_argument(named[0]["arg"], scope) if named else {}
    if holds != {"as_bool": True}:
        message = next((item["arg"] for item in named[1:]), "")
        raise BadInput(
            f"the sizes don't fit the exported program, which asserts {message!r:.200}",
            hint="give other sizes by --dim",
        )


def _read_output(value: Any, scope: Scope) -> dict[str, Any]:
    kind, inner = union(value, "a result", ("as_tensor", "as_tensors", "as_none", *_SYMBOLIC))
    if kind == "as_none":
        return {kind: truth(inner, "no value")}
    if kind == "as_tensors":
        return {kind: [_named(one, "as_tensor", scope) for one in items(inner, "results")]}
    return {kind: _named(inner, kind, scope)}


def _named(value: Any, kind: str, scope: Scope) -> dict[str, str]:
    key = "name" if kind == "as_tensor" else "as_name"
    name = text(members(value, "a result", key)[key], "the name of a result")
    return {key: _made(name, kind, scope)}


def _read_named(value: Any, scope: Scope, takes_graphs: bool) -> dict[str, Any]:
    found = members(value, "an argument", "name", "arg", "kind")
    name = found["name"]
    return {
        "name": name if name == "" else text(name, "the name of an argument"),
        "arg": _read_argument(found["arg"], scope, takes_graphs),
        "kind": None if found["kind"] is None else one_of(found["kind"], "a kind", {1, 2}),
    }


def _read_argument(value: Any, scope: Scope, takes_graphs: bool = False) -> dict[str, Any]:
    """Return an argument: a constant, or names of tensors that are there already."""
    kind, inner = next(iter(mapping(value, "an argument").items()), ("", None))
    if len(value) != 1:
        raise refused("an argument", value)
    one = kind.removesuffix("s")
    if kind in _ARGUMENTS:
        return {kind: _ARGUMENTS[kind](inner)}
    if kind in _SYMBOLIC:
        return {_SYMBOLIC[kind][0]: _number(inner, kind, scope)}
    if one in _SYMBOLIC:
        return {_SYMBOLIC[one][1]: [_number(item, one, scope) for item in items(inner, "sizes")]}
    if kind == "as_tensor":
        return {kind: _tensor(inner, scope)}
    if kind == "as_tensors":
        return {kind: [_tensor(item, scope) for item in items(inner, "tensors")]}
    if kind == "as_optional_tensor":
        return {kind: _optional(inner, scope)}
    if kind == "as_optional_tensors":
        return {kind: [_optional(item, scope) for item in items(inner, "tensors")]}
    if kind == "as_graph" and takes_graphs:
        found = members(inner, "a graph", "name", "graph")
        return {
            kind: {
                "name": text(found["name"], "the name of a graph"),
                "graph": read_graph(found["graph"], scope.sizes, scope.depth - 1),
            }
        }
    raise refused("an argument", kind)


def _tensor(value: Any, scope: Scope) -> dict[str, str]:
    name = text(members(value, "a tensor", "name")["name"], "the name of a tensor")
    if name not in scope.made or name not in scope.tensors:
        raise refused("the name of a tensor that is there", name)
    return {"name": name}


def _optional(value: Any, scope: Scope) -> dict[str, Any]:
    kind, inner = union(value, "a tensor or none", ("as_tensor", "as_none"))
    return {kind: _tensor(inner, scope) if kind == "as_tensor" else truth(inner, "no value")}


def _number(value: Any, kind: str, scope: Scope) -> Any:
    plain, _, convert = _SYMBOLIC[kind]
    form, inner = union(value, "a size", (plain, "as_name"))
    if form == plain:
        return PLAIN[plain](inner)
    name = text(inner, "the name of a size")
    if name not in scope.made or type(scope.numbers.get(name)) is not convert:
        raise refused("the name of a size that is there", name)
    return scope.numbers[name]


def _metadata(value: Any) -> dict[str, str]:
    """Return where the node's module is. The rest names functions and files of another machine."""
    stack = mapping(value or {}, "metadata").get("nn_module_stack")
    return {"nn_module_stack": text(stack, "a module's path", PRINTABLE)} if stack else {}
