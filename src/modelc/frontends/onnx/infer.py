"""Types and sizes of what a node gives, by the operators' definitions in the onnx package."""

from __future__ import annotations

from typing import Final

import onnx
import onnx_ir as ir
from onnx.checker import ValidationError
from onnx.shape_inference import InferenceError, infer_node_outputs

from modelc.frontends.onnx.definitions import NOT_A_NETWORK, schema_of
from modelc.frontends.onnx.draft import OPSET, Draft, sizes_of
from modelc.frontends.onnx.stored_tensors import LARGEST, element_count

_LIKE_INPUT: Final = frozenset({"GroupNormalization", "MeanVarianceNormalization"})
"""Operators whose definition doesn't say that they give what they take."""


def infer(node: ir.Node, draft: Draft) -> None:
    """Give a node's outputs types and sizes, as far as its inputs say them. What the file says of
    them stays where the operator's definition leaves it open.

    Raises:
        BadInput: the operator can't take what it is given, or gives too much.
    """
    opset = OPSET if node.domain == "" else draft.model.graph.opset_imports.get(node.domain, 1)
    schema = schema_of(node.op_type, node.domain, opset)
    inputs = [value for value in node.inputs if value is not None]
    if schema is None or any(value.type is None for value in inputs):
        return
    if node.op_type in _LIKE_INPUT and node.domain == "":
        node.outputs[0].type, node.outputs[0].shape = inputs[0].type, inputs[0].shape
        return
    proto = plain_proto(node)
    types = {f"i{n}": _type(v) for n, v in enumerate(node.inputs) if v is not None}
    data = {}
    for index, value in enumerate(node.inputs):
        if (known := draft.known(value)) is not None:
            data[f"i{index}"] = onnx.numpy_helper.from_array(known)
    imports = [onnx.helper.make_opsetid(d, v) for d, v in draft.model.graph.opset_imports.items()]
    try:
        found = infer_node_outputs(schema, proto, types, data, opset_imports=imports)
    except (InferenceError, ValidationError, RuntimeError, ValueError, TypeError) as error:
        why = str(error).strip().splitlines()[0] if str(error).strip() else "no reason is given"
        raise draft.refuse(node, f"can't take what it is given: {why}", NOT_A_NETWORK) from error
    for index, output in enumerate(node.outputs):
        if (kind := found.get(f"o{index}")) is not None:
            _note(output, kind)
    check_sizes(node, draft)


def check_sizes(node: ir.Node, draft: Draft) -> None:
    """Raises BadInput if a node gives tensors out of all proportion."""
    for output in node.outputs:
        sizes = sizes_of(output)
        try:
            element_count(sizes or ())
        except ValueError as error:
            raise draft.refuse(
                node,
                f"gives a tensor of sizes {list(sizes or ())}",
                f"a tensor has {LARGEST} elements at most: fix smaller sizes with --dim",
            ) from error


def plain_proto(node: ir.Node) -> onnx.NodeProto:
    """Return a node whose inputs are called i0, i1, ... and its outputs o0, o1, ..."""
    proto = ir.serde.serialize_node(node)
    del proto.input[:], proto.output[:], proto.metadata_props[:]
    proto.input.extend("" if v is None else f"i{n}" for n, v in enumerate(node.inputs))
    proto.output.extend(f"o{n}" if v.name != "" else "" for n, v in enumerate(node.outputs))
    return proto


def _type(value: ir.Value) -> onnx.TypeProto:
    if isinstance(value.type, ir.TensorType):
        shape = None
        if value.shape is not None:
            shape = [size if isinstance(size, int) else None for size in value.shape]
        return onnx.helper.make_tensor_type_proto(value.type.dtype.value, shape)
    assert value.type is not None
    return ir.serde.serialize_type(value.type)


def _note(output: ir.Value, kind: onnx.TypeProto) -> None:
    dtype = ir.serde.deserialize_type_proto_for_type(kind)
    if dtype is not None:
        output.type = dtype
    shape = ir.serde.deserialize_type_proto_for_shape(kind)
    if shape is None:
        return
    if output.shape is None or shape.is_static() or output.shape.rank() != shape.rank():
        output.shape = shape
    else:
        pairs = zip(shape, output.shape, strict=True)
        output.shape = ir.Shape([new if isinstance(new, int) else old for new, old in pairs])
