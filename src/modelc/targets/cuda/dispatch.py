"""Which kernels compute an operator: the table of patterns, and going through a graph by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import onnx_ir as ir

from modelc.errors import ModelcError, Where
from modelc.ir.emit import dims_of
from modelc.ir.provenance import module_of
from modelc.targets.cuda.emitter import Emitter
from modelc.targets.cuda.kernel import Constants, Extent
from modelc.targets.cuda.splits import splits_for
from modelc.targets.cuda.torch_operators import OPERATORS

MULTIPROCESSORS: Final = 132
"""Of the GPU that decoding is divided for, an H100; the split is part of the plan, which is for
every architecture."""

Tensors = dict[str, str | None]
Rule = Callable[[ir.Node, Emitter], None]


def dispatch(graph: ir.Graph, emitter: Emitter) -> None:
    """Add the calls of a graph, in its order. What no kernel computes goes to torch.

    Raises:
        ModelcError: neither has the operator; names its module path.
    """
    for node in graph:
        rule = RULES.get(node.op_type)
        if rule is not None:
            rule(node, emitter)
        elif node.op_type in OPERATORS and not node.domain:
            emitter.operator(node, node.op_type, _attributes(node))
        else:
            raise ModelcError(
                f"neither a kernel nor torch computes {node.op_type}",
                where=Where(module=module_of(node)),
                hint="this model can't be compiled for CUDA",
            )


def _embed(node: ir.Node, emitter: Emitter) -> None:
    ids, table = _values(node, 2)
    vocabulary, width = dims_of(table)
    emitter.launch(
        node,
        "embed",
        {
            "token_ids": emitter.read(ids),
            "table": emitter.read(table),
            "out": emitter.make(node.outputs[0]),
        },
        {"vocab": _int(vocabulary), "width": _int(width), "scale": _float(node, "scale", 1.0)},
    )


def _rms_norm(node: ir.Node, emitter: Emitter) -> None:
    x, weight = _values(node, 2)
    emitter.launch(
        node,
        "rms_norm",
        {
            "x": emitter.read(x),
            "weight": emitter.read(weight),
            "out": emitter.make(node.outputs[0]),
        },
        {"width": _width(x), "epsilon": _float(node, "epsilon")},
    )


def _add_rms_norm(node: ir.Node, emitter: Emitter) -> None:
    x, residual, weight = _values(node, 3)
    total, out = node.outputs
    emitter.launch(
        node,
        "add_rms_norm",
        {
            "x": emitter.read(x),
            "residual": emitter.read(residual),
            "weight": emitter.read(weight),
            "total": emitter.make(total),
            "out": emitter.make(out),
        },
        {"width": _width(x), "epsilon": _float(node, "epsilon")},
    )


def _add(node: ir.Node, emitter: Emitter) -> None:
    x, y = _values(node, 2)
    if dims_of(x) != dims_of(y) or y.const_value is not None or x.const_value is not None:
        emitter.operator(node, "Add", {})
        return
    names = {"x": emitter.read(x), "y": emitter.read(y), "out": emitter.make(node.outputs[0])}
    emitter.launch(node, "add", names, {"width": _width(x)})


def _gated(node: ir.Node, emitter: Emitter) -> None:
    (x,) = _values(node, 1)
    names = {"x": emitter.read(x), "out": emitter.make(node.outputs[0])}
    constants: Constants = {
        "width": _width(node.outputs[0]),
        "activation": _text(node, "activation"),
    }
    emitter.launch(node, "gated", names, constants)


def _linear(node: ir.Node, emitter: Emitter) -> None:
    x, weight, bias = _values(node, 3, optional=True)
    tensors: Tensors = {"x": emitter.read(x), "w": emitter.read(weight)}
    _launch_linear(node, emitter, "linear", tensors, bias)


def _int4_linear(node: ir.Node, emitter: Emitter) -> None:
    x, codes, scales, zeros, bias = _values(node, 5, optional=True)
    tensors: Tensors = {
        "x": emitter.read(x),
        "codes": emitter.read(codes),
        "scales": emitter.read(scales),
        "zeros": emitter.read_optional(zeros),
    }
    _launch_linear(node, emitter, "int4_linear", tensors, bias, group=_number(node, "group"))


def _fp8_linear(node: ir.Node, emitter: Emitter) -> None:
    """For few tokens the weights become numbers again; for many, the tokens become codes too."""
    x, codes, scales, bias = _values(node, 4, optional=True)
    block = _number(node, "block")
    kernel = "fp8_block_linear" if block else "fp8_linear"
    tensors: Tensors = {
        "x": emitter.read(x),
        "w": emitter.read(codes),
        "scales": emitter.read(scales),
    }
    if not emitter.numbers.is_few:
        codes_of, scales_of = quantised(node, emitter, x, block)
        tensors |= {"x": codes_of, "x_scales": scales_of}
    _launch_linear(node, emitter, kernel, tensors, bias)


def quantised(node: ir.Node, emitter: Emitter, x: ir.Value, block: int) -> tuple[str, str]:
    """Return the codes and the scales of activations, made once for all that read them."""
    name, width = emitter.read(x), _width(x)
    group = block or width
    codes, scales = f"{name}.codes.{group}", f"{name}.scales.{group}"
    if codes not in emitter.buffers:
        lead = Extent(1, str(dims_of(x)[0]))
        emitter.buffer(codes, "e4m3", (lead, Extent(width)))
        emitter.buffer(scales, "fp32", (lead, Extent(-(-width // group))))
        names = {"x": name, "out": codes, "scales": scales}
        emitter.launch(node, "quantise_fp8", names, {"width": width, "group": group})
    return codes, scales


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
        "N": _width(result),
        "K": _width(x),
        "activation": _text(node, "activation"),
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
    return any(node.op_type == "Softcap" for node in value.consumers())


def _rope_write(node: ir.Node, emitter: Emitter) -> None:
    qkv, query_norm, key_norm, cos, sin, positions, slots, keys, values = node.inputs[:9]
    names = {
        "qkv": qkv, "query_norm": query_norm, "key_norm": key_norm, "cos": cos, "sin": sin,
        "positions": positions, "slots": slots, "key_cache": keys, "value_cache": values,
    }  # fmt: skip
    tensors = {name: emitter.read_optional(value) for name, value in names.items()}
    tensors["queries"] = emitter.make(node.outputs[0])
    constants = {
        **_sizes(node, emitter),
        "rotary": _number(node, "rotary"),
        "epsilon": _float(node, "epsilon", 0.0),
    }
    emitter.launch(node, "rope_write", tensors, constants)


def _paged_attention(node: ir.Node, emitter: Emitter) -> None:
    queries, keys, values, tables, starts, lengths = _values(node, 6)
    sizes, out = _sizes(node, emitter), emitter.make(node.outputs[0])
    constants: dict[str, Any] = {
        **sizes,
        "scale": _float(node, "scale"),
        "softcap": _float(node, "softcap", 0.0),
        "window": _number(node, "window"),
    }
    tensors: Tensors = {
        "queries": emitter.read(queries),
        "key_cache": emitter.read(keys),
        "value_cache": emitter.read(values),
        "block_tables": emitter.read(tables),
        "lengths": emitter.read(lengths),
    }
    if emitter.numbers.kind == "prefill":
        tensors |= {"starts": emitter.read(starts), "out": out}
        emitter.launch(node, "attention_prefill", tensors, constants)
        return
    most = emitter.numbers.most
    longest = most["max_pages"] * sizes["page"]
    splits = splits_for(most["sequences"], sizes["kv_heads"], longest, MULTIPROCESSORS)
    lead, heads = Extent(1, "sequences"), Extent(sizes["heads"])
    partial = emitter.buffer(
        f"{out}.partial", "fp32", (lead, heads, Extent(splits), Extent(sizes["head_dim"]))
    )
    stats = emitter.buffer(f"{out}.stats", "fp32", (lead, heads, Extent(splits), Extent(2)))
    parts: dict[str, str | None] = {"partial": partial, "stats": stats}
    emitter.launch(node, "attention_decode", {**tensors, **parts}, {**constants, "splits": splits})
    merged = {"heads": sizes["heads"], "head_dim": sizes["head_dim"], "splits": splits}
    emitter.launch(node, "attention_merge", {**parts, "out": out}, merged)


def _select_rows(node: ir.Node, emitter: Emitter) -> None:
    x, wanted = _values(node, 2)
    if emitter.numbers.kind == "decode":  # each token's logits are wanted
        emitter.alias(node.outputs[0], emitter.read(x))
        return
    names = {
        "x": emitter.read(x),
        "wanted": emitter.read(wanted),
        "out": emitter.make(node.outputs[0]),
    }
    emitter.launch(node, "select_rows", names, {"width": _width(x)})


def _softcap(node: ir.Node, emitter: Emitter) -> None:
    (x,) = _values(node, 1)
    name = emitter.read(x)
    emitter.launch(
        node, "softcap", {"logits": name}, {"width": _width(x), "cap": _float(node, "cap")}
    )
    emitter.alias(node.outputs[0], name)


RULES: Final[Mapping[str, Rule]] = {
    "Add": _add,
    "AddRmsNorm": _add_rms_norm,
    "Embed": _embed,
    "Fp8Linear": _fp8_linear,
    "Gated": _gated,
    "Int4Linear": _int4_linear,
    "Linear": _linear,
    "PagedAttention": _paged_attention,
    "RmsNorm": _rms_norm,
    "RopeWrite": _rope_write,
    "SelectRows": _select_rows,
    "Softcap": _softcap,
}


def _sizes(node: ir.Node, emitter: Emitter) -> dict[str, int]:
    sizes = {name: _number(node, name) for name in ("heads", "kv_heads", "head_dim")}
    return {**sizes, "page": emitter.numbers.page}


def _values(node: ir.Node, count: int, *, optional: bool = False) -> list[Any]:
    """Inputs of a node; those that may be left out are None."""
    values = [*node.inputs, *[None] * (count - len(node.inputs))]
    assert len(values) == count and (optional or None not in values), node.op_type
    return values


def _width(value: ir.Value) -> int:
    return _int(dims_of(value)[-1])


def _int(dim: int | str) -> int:
    assert isinstance(dim, int)
    return dim


def _number(node: ir.Node, name: str) -> int:
    return node.attributes.get_int(name, 0)


def _float(node: ir.Node, name: str, default: float | None = None) -> float:
    value = node.attributes.get_float(name, default)
    assert value is not None, f"{node.op_type} has no {name}"
    return float(value)


def _text(node: ir.Node, name: str) -> str:
    return node.attributes.get_string(name, "none")


def _attributes(node: ir.Node) -> dict[str, Any]:
    return {name: attribute.value for name, attribute in node.attributes.items()}
