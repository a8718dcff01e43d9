"""Mixtures of experts."""

from __future__ import annotations

from typing import Any, Final

import onnx_ir as ir

from modelc.targets.cuda.emitter import Emitter, Rule
from modelc.targets.cuda.kernel import Constants
from modelc.targets.cuda.patterns.codes import quantised
from modelc.targets.cuda.patterns.values import (
    Tensors,
    number,
    text,
    values_of,
    width_of,
)
from modelc.targets.cuda.rows.experts import padded_extent, takes_few, tile_rows, tiles_extent


def _route(node: ir.Node, emitter: Emitter) -> None:
    (logits,) = values_of(node, 1)
    ids, shares = node.outputs
    tensors: Tensors = {
        "logits": emitter.read(logits),
        "ids": emitter.make(ids, "i32"),
        "shares": emitter.make(shares, "fp32"),
    }
    constants: Constants = {
        "experts": number(node, "experts"),
        "used": number(node, "used"),
        "normalise": bool(number(node, "normalise")),
    }
    emitter.launch(node, "route", tensors, constants)


def _expert_linear(node: ir.Node, emitter: Emitter) -> None:
    weight = node.inputs[2]
    _launch_experts(node, emitter, "expert_linear", {"w": emitter.read_optional(weight)})


def _expert_int4_linear(node: ir.Node, emitter: Emitter) -> None:
    _, _, codes, scales, zeros = values_of(node, 5, optional=True)
    weights: Tensors = {
        "codes": emitter.read(codes),
        "scales": emitter.read(scales),
        "zeros": emitter.read_optional(zeros),
    }
    group = number(node, "group")
    _launch_experts(node, emitter, "expert_int4_linear", weights, group=group)


def _expert_fp8_linear(node: ir.Node, emitter: Emitter) -> None:
    x, _, codes, scales = values_of(node, 4)
    block = number(node, "block")
    weights: Tensors = {"w": emitter.read(codes), "scales": emitter.read(scales)}
    if not _is_few(node, emitter):
        weights["x"], weights["x_scales"] = quantised(node, emitter, x, block)
    kernel = "expert_fp8_block_linear" if block else "expert_fp8_linear"
    _launch_experts(node, emitter, kernel, weights)


def _is_few(node: ir.Node, emitter: Emitter) -> bool:
    """Whether pairs are so few that sorting them by expert would bring nothing."""
    tokens, used = emitter.numbers.most["tokens"], number(node, "used")
    return emitter.numbers.is_few and takes_few(tokens, used, number(node, "experts"))


def _launch_experts(
    node: ir.Node, emitter: Emitter, kernel: str, weights: Tensors, **constants: int
) -> None:
    x, ids = node.inputs[:2]
    assert x is not None and ids is not None
    experts, used = number(node, "experts"), number(node, "used")
    fixed: dict[str, Any] = {
        "N": width_of(node.outputs[0]),
        "K": width_of(x),
        "used": used,
        "activation": text(node, "activation"),
        "shared_input": bool(number(node, "shared_input")),
        **constants,
    }
    tensors: Tensors = {"x": emitter.read(x), **weights}
    if _is_few(node, emitter):
        tensors["ids"] = emitter.read(ids)
        kernel += "_few"
    else:
        block = tile_rows(emitter.numbers.most["tokens"], used, experts)
        fixed |= {"experts": experts, "block": block}
        tensors["order"], tensors["tile_expert"] = _grouped(node, emitter, ids, experts, block)
    tensors["out"] = emitter.make(node.outputs[0])
    emitter.launch(node, kernel, tensors, fixed)


def _grouped(
    node: ir.Node, emitter: Emitter, ids: ir.Value, experts: int, block: int
) -> tuple[str, str]:
    """Return pairs sorted by expert, and each tile's expert, made once for all that read them."""
    name, used = emitter.read(ids), width_of(ids)
    order, tile_expert = f"{name}.order", f"{name}.tile_expert"
    if order not in emitter.buffers:
        emitter.buffer(order, "i32", (padded_extent(used, experts, block),))
        emitter.buffer(tile_expert, "i32", (tiles_extent(used, experts, block),))
        emitter.launch(
            node,
            "group_pairs",
            {"ids": name, "order": order, "tile_expert": tile_expert},
            {"experts": experts, "used": used, "block": block},
        )
    return order, tile_expert


def _combine(node: ir.Node, emitter: Emitter) -> None:
    y, shares = values_of(node, 2)
    tensors: Tensors = {
        "y": emitter.read(y),
        "shares": emitter.read(shares),
        "out": emitter.make(node.outputs[0]),
    }
    constants: Constants = {"used": number(node, "used"), "width": width_of(y)}
    emitter.launch(node, "combine", tensors, constants)


EXPERTS: Final[dict[str, Rule]] = {
    "Combine": _combine,
    "ExpertFp8Linear": _expert_fp8_linear,
    "ExpertInt4Linear": _expert_int4_linear,
    "ExpertLinear": _expert_linear,
    "Route": _route,
}
