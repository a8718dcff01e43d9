"""Operators as the onnx package defines them, and whether a node is what its definition says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import onnx
import onnx_ir as ir

from modelc.frontends.onnx.draft import OPSET, Draft
from modelc.frontends.onnx.opsets.table import adapter_of

NOT_A_NETWORK: Final = "is it a network that runs? what exported it must export it again"


@cache
def schema_of(op_type: str, domain: str, opset: int) -> onnx.defs.OpSchema | None:
    """Return an operator's definition in an opset, None if there is none, or it was given up and
    nothing takes its place."""
    try:
        schema = onnx.defs.get_schema(op_type, opset, domain)
    except onnx.defs.SchemaError:
        return None
    if schema.deprecated and (domain != "" or adapter_of(op_type, opset) is None):
        return None
    return schema


@dataclass(frozen=True)
class _Form:
    """How nodes of an operator look.

    Attributes:
        inputs, outputs: how many, at least and at most.
        types: of attributes.
        single: which inputs may not be left out.
    """

    inputs: tuple[int, int]
    outputs: tuple[int, int]
    types: Mapping[str, ir.AttributeType]
    required: frozenset[str]
    single: frozenset[int]


@cache
def _form_of(op_type: str, domain: str, since: int) -> _Form:
    schema = onnx.defs.get_schema(op_type, since, domain)
    single = onnx.defs.OpSchema.FormalParameterOption.Single
    attributes: Any = schema.attributes.items()  # its stubs leave the enumerations out
    return _Form(
        (schema.min_input, schema.max_input),
        (schema.min_output, schema.max_output),
        {name: ir.AttributeType(attribute.type.value) for name, attribute in attributes},
        frozenset(name for name, attribute in attributes if attribute.required),
        frozenset(n for n, kind in enumerate(schema.inputs) if kind.option == single),
    )


def check_node(node: ir.Node, draft: Draft) -> None:
    """Hold a node against its operator's definition in its own opset: attributes, and how many
    tensors it takes and gives. Operators of domains that onnx doesn't know may be anything.

    Raises:
        BadInput: it doesn't fit, or there is no such operator.
    """
    opset = node.version if node.domain == "" else draft.model.graph.opset_imports.get(node.domain)
    schema = schema_of(node.op_type, node.domain, opset or OPSET)
    if schema is None and node.domain == "":
        raise draft.refuse(
            node,
            f"is no operator of opset {opset}",
            "an operator of your own needs a domain of its own",
        )
    if schema is None:
        return
    form = _form_of(node.op_type, node.domain, schema.since_version)
    fits = (
        form.inputs[0] <= len(node.inputs) <= form.inputs[1]
        and form.outputs[0] <= len(node.outputs) <= form.outputs[1]
        and all(form.types.get(a.name) == a.type and _is_text(a) for a in node.attributes.values())
        and form.required <= node.attributes.keys()
        and not any(v is None and n in form.single for n, v in enumerate(node.inputs))
    )
    if not fits:
        raise draft.refuse(node, f"isn't used as opset {opset} defines it", NOT_A_NETWORK)


def _is_text(attribute: ir.Attr) -> bool:
    """False for an attribute whose text is no UTF-8."""
    if attribute.type == ir.AttributeType.STRING:
        return isinstance(attribute.value, str)
    if attribute.type == ir.AttributeType.STRINGS:
        return all(isinstance(text, str) for text in attribute.value)
    return True
