"""Rotary embedding and attention."""

from __future__ import annotations

from typing import Any, Final

import onnx_ir as ir

from modelc.targets.cuda.emitter import Emitter, Rule
from modelc.targets.cuda.kernel import Extent
from modelc.targets.cuda.patterns.values import (
    Tensors,
    number,
    real,
    values_of,
)
from modelc.targets.cuda.splits import splits_for

MULTIPROCESSORS: Final = 132
"""Of the GPU that decoding is divided for, an H100; the split is part of the plan, which is for
every architecture."""


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
        "rotary": number(node, "rotary"),
        "epsilon": real(node, "epsilon", 0.0),
    }
    emitter.launch(node, "rope_write", tensors, constants)


def _paged_attention(node: ir.Node, emitter: Emitter) -> None:
    queries, keys, values, tables, starts, lengths = values_of(node, 6)
    sizes, out = _sizes(node, emitter), emitter.make(node.outputs[0])
    constants: dict[str, Any] = {
        **sizes,
        "scale": real(node, "scale"),
        "softcap": real(node, "softcap", 0.0),
        "window": number(node, "window"),
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


def _sizes(node: ir.Node, emitter: Emitter) -> dict[str, int]:
    sizes = {name: number(node, name) for name in ("heads", "kv_heads", "head_dim")}
    return {**sizes, "page": emitter.numbers.page}


ATTENTION: Final[dict[str, Rule]] = {
    "PagedAttention": _paged_attention,
    "RopeWrite": _rope_write,
}
