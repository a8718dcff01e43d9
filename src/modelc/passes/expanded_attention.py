"""The expanded graph's attention as HTP has it: what is cached, where it is scaled, and that
tensors are multiplied by 8 bits."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from modelc.ir.emit import dims_of
from modelc.ir.encodings import Encoding
from modelc.ir.provenance import module_of, set_canonical_name
from modelc.passes.htp.qdq import dequantise, quantise
from modelc.passes.htp.static import scope_in


def name_caches(graph: ir.Graph) -> None:
    """Past keys and values, and the turned keys, are what comes out, under its encoding."""
    for value in graph.inputs:
        if str(value.name).startswith("past_key_values."):
            set_canonical_name(value, str(value.name).replace("past_key_values", "present", 1))
    for node in graph:
        source = node.inputs[0] if node.inputs else None
        if node.op_type == "Transpose" and source is not None and source.is_graph_output():
            set_canonical_name(node.outputs[0], str(source.name))


def scale_queries(graph: ir.Graph) -> None:
    """`scale * (q @ k)` becomes `(scale * q) @ k`, as HTP has it."""
    for node in list(graph):
        scaled = node.outputs[0]
        if node.op_type != "Mul" or not str(scaled.name).endswith(".self_attn.scaled"):
            continue
        scores, scale = node.inputs
        product = _product_behind(scores)
        queries = product.inputs[0]
        assert scores is not None and queries is not None
        scope = scope_in(graph, module_of(node))
        smaller = scope.emit("Mul", [queries, scale], dims_of(queries), "q_scaled")
        graph.insert_before(product, scope.sheet.nodes)
        product.replace_input_with(0, smaller)
        set_canonical_name(product.outputs[0], str(scaled.name))
        product.outputs[0].name = f"{scaled.name}.folded"  # where it isn't `scores` itself
        scaled.replace_all_uses_with(scores)
        graph.remove(node, safe=True)
        scores.name = str(scaled.name)


def _product_behind(scores: ir.Value | None) -> ir.Node:
    """Return the product of queries and keys, which may be reshaped from groups to heads."""
    product = scores.producer() if scores is not None else None
    if product is not None and product.op_type == "Reshape":
        folded = product.inputs[0]
        product = folded.producer() if folded is not None else None
    assert product is not None and product.op_type == "MatMul"
    return product


def second_operands(
    graph: ir.Graph, chosen: Mapping[ir.Value, Encoding]
) -> list[tuple[ir.Node, Encoding]]:
    """Return products of two tensors whose second one has more than the 8 bits that HTP multiplies
    by, and the encoding of these: the upper half of its codes."""
    found = []
    for node in graph:
        second = node.inputs[1] if node.op_type == "MatMul" else None
        known = chosen.get(second) if second is not None else None
        if known is not None and known.dtype == "uint16":
            upper = Encoding(known.scale * 256, round(known.zero_point / 256), "uint8")
            found.append((node, upper))
    return found


def round_operand(graph: ir.Graph, node: ir.Node, encoding: Encoding) -> None:
    """Let a product multiply by what codes of 8 bits stand for."""
    second = node.inputs[1]
    assert second is not None
    scope, name = scope_in(graph, module_of(node)), f"{second.name}.upper"
    rounded_to = dequantise(scope, quantise(scope, second, encoding, name), encoding, name)
    graph.insert_before(node, scope.sheet.nodes)
    node.replace_input_with(1, rounded_to)
