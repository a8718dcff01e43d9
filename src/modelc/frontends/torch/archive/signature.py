"""What a program takes and gives: which of its inputs are weights, which outputs are tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from modelc.errors import BadInput
from modelc.frontends.torch.archive.graph import PLAIN, changes
from modelc.frontends.torch.archive.values import (
    QUALIFIED,
    items,
    mapping,
    members,
    text,
    truth,
    union,
)

_LIFTED: Final[Mapping[str, str]] = {
    "parameter": "parameter_name",
    "buffer": "buffer_name",
    "tensor_constant": "tensor_constant_name",
}
"""What a program takes beside its inputs, and what says which one."""

_CHANGED: Final[Mapping[str, str]] = {
    "buffer_mutation": "buffer_name",
    "parameter_mutation": "parameter_name",
    "user_input_mutation": "user_input_name",
}


def read_signature(value: Any) -> tuple[dict[str, Any], list[bool]]:
    """Return which inputs are weights, and of each output whether it is a tensor."""
    found = members(value, "a signature", "input_specs", "output_specs")
    inputs = [_input(item) for item in items(found["input_specs"], "inputs")]
    outputs = [_output(item) for item in items(found["output_specs"], "outputs")]
    return {"input_specs": inputs, "output_specs": outputs}, [
        "as_tensor" in output["user_output"]["arg"] for output in outputs
    ]


def _input(value: Any) -> dict[str, Any]:
    kind, inner = union(value, "an input", (*_LIFTED, "user_input", "constant_input"))
    if kind == "user_input":
        return {kind: {"arg": _argument(members(inner, "an input", "arg")["arg"])}}
    if kind == "constant_input":
        found = members(inner, "an input", "name", "value")
        constant, plain = union(found["value"], "an input", PLAIN)
        name = text(found["name"], "the name of an input")
        return {kind: {"name": name, "value": {constant: PLAIN[constant](plain)}}}
    key = _LIFTED[kind]
    found = members(inner, "an input", "arg", key, *(["persistent"] if kind == "buffer" else []))
    made: dict[str, Any] = {
        "arg": {"name": text(members(found["arg"], "an input", "name")["name"], "an input")},
        key: text(found[key], "the name of a weight", QUALIFIED),
    }
    if kind == "buffer":
        made["persistent"] = truth(found["persistent"], "whether a buffer is persistent")
    return {kind: made}


def _output(value: Any) -> dict[str, Any]:
    kind, inner = union(value, "an output", ("user_output", *_CHANGED))
    if kind in _CHANGED:
        name = members(inner, "an output", "arg", _CHANGED[kind])[_CHANGED[kind]]
        raise changes(text(name, "the name of a weight", QUALIFIED))
    given = members(inner, "an output", "arg")["arg"]
    if not {"as_tensor", "as_none"} & set(mapping(given, "an output")):
        raise BadInput(
            "the exported program gives a number, which is no output of a network",
            hint="return tensors alone: leave sizes out of what forward returns",
        )
    return {kind: {"arg": _argument(given)}}


def _argument(value: Any) -> dict[str, Any]:
    kind, inner = union(value, "an argument", ("as_tensor", *PLAIN))
    if kind in PLAIN:
        return {kind: PLAIN[kind](inner)}
    return {kind: {"name": text(members(inner, "an argument", "name")["name"], "a tensor")}}
