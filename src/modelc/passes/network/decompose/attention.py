"""Attention and rotary embeddings of opset 23 as plain operators.

HTP computes rotary embeddings wrongly, and takes no boolean masks; ranges of scores and
probabilities, which quantised graphs need, have no place inside of one operator.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from modelc.passes.network.read import (
    constant_of,
    dtype_of,
    input_of,
    integer,
    is_used,
    needed,
    real,
    sizes_of,
)
from modelc.passes.network.sketch import Sketch

MASKED = -30000.0
"""What is added to scores that don't count: within half precision, twice as well."""


def attention(s: Sketch, node: ir.Node) -> list[ir.Value | None] | None:
    """softmax(softcap(scale * q @ k.T) + mask) @ v over the past and the new keys and values.

    Scores that are an output themselves stay whole where a mask or a cap is in them.
    """
    q, q_heads = _heads(s, needed(node), integer(node, "q_num_heads", 0))
    k, _ = _heads(s, needed(node, 1), integer(node, "kv_num_heads", 0))
    v, _ = _heads(s, needed(node, 2), integer(node, "kv_num_heads", 0))
    past_key, past_value = input_of(node, 4), input_of(node, 5)
    if past_key is not None and past_value is not None:
        k, v = s.concat([past_key, k], 2), s.concat([past_value, v], 2)
    present = [k if is_used(node, 1) else None, v if is_used(node, 2) else None]

    batch, heads, rows, width = sizes_of(q)
    kv_heads, total = sizes_of(k)[1:3]
    group = heads // kv_heads
    scale = real(node, "scale", float(width) ** -0.5)
    # Query heads that share a key head become more rows of one product.
    folded = s.reshape(s.mul(q, scale), [batch, kv_heads, group * rows, width])
    scores = s.matmul(folded, s.transpose(k, [0, 1, 3, 2]))
    scores = s.reshape(scores, [batch, heads, rows, total])
    capped = scores
    if cap := real(node, "softcap", 0.0):
        capped = s.mul(s.op("Tanh", [s.div(scores, cap)]), cap)
    mask = _mask(s, node, rows, total)
    masked = s.add(capped, mask) if mask is not None else capped
    chances = s.op("Softmax", [masked], axis=-1)
    if (seeing := _seeing_rows(s, node, rows)) is not None:
        chances = s.mul(chances, seeing)
    weighted = s.reshape(chances, [batch, kv_heads, group * rows, total])
    context = s.reshape(s.matmul(weighted, v), [batch, heads, rows, sizes_of(v)[3]])
    if len(sizes_of(needed(node))) == 3:
        context = s.transpose(context, [0, 2, 1, 3])
        context = s.reshape(context, [batch, rows, q_heads * sizes_of(v)[3]])
    if not is_used(node, 3):
        return [context, *present, None]
    inner = {0: scores, 3: chances}.get(integer(node, "qk_matmul_output_mode", 0))
    return None if inner is None else [context, *present, inner]


def _heads(s: Sketch, value: ir.Value, heads: int) -> tuple[ir.Value, int]:
    """[batch, rows, heads * width] as [batch, heads, rows, width]."""
    sizes = sizes_of(value)
    if len(sizes) == 4:
        return value, sizes[1]
    batch, rows, width = sizes
    split = s.reshape(value, [batch, rows, heads, width // heads])
    return s.transpose(split, [0, 2, 1, 3]), heads


def _mask(s: Sketch, node: ir.Node, rows: int, total: int) -> ir.Value | None:
    """Return what is added to the scores; causal rows see what lies up to their own place."""
    q, given = needed(node), input_of(node, 3)
    mask = given
    if given is not None and dtype_of(given) == ir.DataType.BOOL:
        mask = s.where(given, s.number(0.0, q, "seen"), s.number(MASKED, q, "masked"))
    if mask is not None and sizes_of(mask)[-1] < total:
        short = total - sizes_of(mask)[-1]
        mask = s.pad(mask, [0] * len(sizes_of(mask)), [*[0] * (len(sizes_of(mask)) - 1), short],
                     MASKED)  # fmt: skip
    if not integer(node, "is_causal", 0):
        return mask
    past = input_of(node, 4)
    offset = sizes_of(past)[2] if past is not None else 0
    seen = np.tril(np.ones((rows, total), bool), offset)
    table = np.where(seen, 0.0, MASKED).astype(dtype_of(q).numpy())
    causal = s.constant(table, "causal")
    return causal if mask is None else s.op("Max", [s.add(mask, causal), s.number(MASKED, q)])


def _seeing_rows(s: Sketch, node: ir.Node, rows: int) -> ir.Value | None:
    """Return 1 for rows that see a key and 0 for others, whose result is 0: no softmax is. Only a
    boolean mask can say that a row sees none; None if it doesn't."""
    mask = input_of(node, 3)
    if mask is None or dtype_of(mask) != ir.DataType.BOOL:
        return None
    seen = mask
    if integer(node, "is_causal", 0):
        past = input_of(node, 4)
        total = sizes_of(mask)[-1]
        offset = sizes_of(past)[2] if past is not None else 0
        causal = s.constant(np.tril(np.ones((rows, total), bool), offset), "causal")
        seen = s.op("And", [mask, causal])
    known = constant_of(mask)
    if known is not None and seen is mask and bool(known.any(-1).all()):
        return None
    numbers = s.cast(seen, dtype_of(needed(node)))
    return s.reduce("ReduceMax", numbers, [len(sizes_of(numbers)) - 1])


def rotary(s: Sketch, node: ir.Node) -> list[ir.Value]:
    """[first, second, rest] to [first cos - second sin, second cos + first sin, rest]; the two
    parts are halves, or pairs where interleaved."""
    source = needed(node)
    x, _ = _heads(s, source, integer(node, "num_heads", 0))
    batch, _, rows, width = sizes_of(x)
    turned = integer(node, "rotary_embedding_dim", 0) or width
    half = turned // 2
    cos, sin = (_angles(s, node, index, (batch, rows, half)) for index in (1, 2))
    part = x if turned == width else s.slice(x, 3, 0, turned)
    if integer(node, "interleaved", 0):
        places = np.arange(turned)
        first, second = s.take(part, places[::2], 3), s.take(part, places[1::2], 3)
    else:
        first, second = s.slice(part, 3, 0, half), s.slice(part, 3, half, turned)
    new_first = s.sub(s.mul(first, cos), s.mul(second, sin))
    new_second = s.add(s.mul(second, cos), s.mul(first, sin))
    result = s.concat([new_first, new_second], 3)
    if integer(node, "interleaved", 0):
        result = s.take(result, np.arange(turned).reshape(2, half).T.reshape(-1), 3)
    if turned != width:
        result = s.concat([result, s.slice(x, 3, turned, width)], 3)
    if len(sizes_of(source)) == 3:
        result = s.reshape(s.transpose(result, [0, 2, 1, 3]), sizes_of(source))
    return [result]


def _angles(s: Sketch, node: ir.Node, index: int, sizes: tuple[int, int, int]) -> ir.Value:
    """Return cos or sin [batch, 1, rows, half] of the tokens' positions."""
    table, positions = needed(node, index), input_of(node, 3)
    _, rows, half = sizes
    if positions is not None:
        table = s.op("Gather", [table, positions], [*sizes_of(positions), half], axis=0)
    return s.reshape(table, [sizes_of(table)[0], 1, rows, half])
