"""Linear layers."""

from __future__ import annotations

from typing import Any, Final

import onnx_ir as ir

from modelc.targets.cuda.emitter import Emitter, Rule
from modelc.targets.cuda.patterns.codes import quantised
from modelc.targets.cuda.patterns.values import (
    Tensors,
    number,
    text,
    values_of,
    width_of,
)


def _linear(node: ir.Node, emitter: Emitter) -> None:
    x, weight, bias = values_of(node, 3, optional=True)
    tensors: Tensors = {"x": emitter.read(x), "w": emitter.read(weight)}
    _launch_linear(node, emitter, "linear", tensors, bias)


def _int4_linear(node: ir.Node, emitter: Emitter) -> None:
    x, codes, scales, zeros, bias = values_of(node, 5, optional=True)
    tensors: Tensors = {
        "x": emitter.read(x),
        "codes": emitter.read(codes),
        "scales": emitter.read(scales),
        "zeros": emitter.read_optional(zeros),
    }
    _launch_linear(node, emitter, "int4_linear", tensors, bias, group=number(node, "group"))


def _fp8_linear(node: ir.Node, emitter: Emitter) -> None:
    """For few tokens the weights become numbers again; for many, the tokens become codes too."""
    x, codes, scales, bias, static = values_of(node, 5, optional=True)
    block = number(node, "block")
    kernel = "fp8_block_linear" if block else "fp8_linear"
    tensors: Tensors = {
        "x": emitter.read(x),
        "w": emitter.read(codes),
        "scales": emitter.read(scales),
    }
    if not emitter.numbers.is_few:
        codes_of, scales_of = quantised(node, emitter, x, block, static)
        tensors |= {"x": codes_of, "x_scales": scales_of}
    _launch_linear(node, emitter, kernel, tensors, bias)


def _launch_linear(
    node: ir.Node,
    emitter: Emitter,
    kernel: str,
    tensors: Tensors,
    bias: ir.Value | None,
    **constants: int,
) -> None:
    x, result = node.inputs[0], node.outputs[0]
    assert x is not None
    fixed: dict[str, Any] = {
        "N": width_of(result),
        "K": width_of(x),
        "activation": text(node, "activation"),
        **constants,
    }
    if emitter.numbers.is_few:
        kernel += "_few"
        fixed["most"] = emitter.numbers.most["tokens"]
    tensors |= {
        "bias": emitter.read_optional(bias),
        "out": emitter.make(result, "fp32" if _is_exact(result) else ""),
    }
    emitter.launch(node, kernel, tensors, fixed)


def _is_exact(value: ir.Value) -> bool:
    """Whether a value stays float32: logits."""
    if value.is_graph_output():
        return True
    return any(node.op_type in ("Softcap", "Route", "AllGather") for node in value.consumers())


LINEAR: Final[dict[str, Rule]] = {
    "Fp8Linear": _fp8_linear,
    "Int4Linear": _int4_linear,
    "Linear": _linear,
}
