"""The rotary embedding as a GGUF file gives it: keys, and tensors that no key announces.

Conventions are llama.cpp's. Scaling as in Llama 3 has no key, only `rope_freqs.weight`; longrope
in phi3 has no key either, only `rope_factors_{long,short}.weight`. An unknown scaling type is
refused: ignoring it would silently compute something else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from modelc.decoder.config import Rope
from modelc.errors import BadInput, Where
from modelc.frontends.fields import Fields
from modelc.frontends.stored import StoredTensor
from modelc.ir.stored import StoredMatrix

DIVISORS = "rope_freqs.weight"
LONG, SHORT = "rope_factors_long.weight", "rope_factors_short.weight"
TENSORS: Final = (DIVISORS, LONG, SHORT)

KINDS = {"none": "default", "linear": "linear", "yarn": "yarn", "longrope": "longrope"}
KEYS = (
    "dimension_count", "freq_base", "scaling.type", "scaling.factor",
    "scaling.original_context_length", "scaling.attn_factor", "scaling.finetuned",
    "scaling.yarn_attn_factor", "scaling.yarn_ext_factor", "scaling.yarn_beta_fast",
    "scaling.yarn_beta_slow",
)  # fmt: skip


def read_rope(fields: Fields, head_dim: int, tensors: Mapping[str, StoredTensor]) -> Rope:
    """Return the rotary embedding.

    Args:
        fields: the metadata under the architecture's name.
        tensors: all of the file's.

    Raises:
        BadInput: an unknown kind, or two scalings at once.
    """
    rope = fields.under("rope.")
    plain = Rope(
        theta=rope.number("freq_base", 10000.0), dim=rope.integer("dimension_count", head_dim)
    )
    kind = _kind(rope, tensors)
    if kind == "llama3":
        return replace(plain, kind="llama3", frequency_divisors=_vector(tensors[DIVISORS]))
    if kind == "longrope":
        return _longrope(plain, fields, tensors)
    if kind == "yarn":
        return _yarn(plain, fields)
    if rope.number("scaling.attn_factor", 1.0) != 1.0:
        raise rope.bad("scaling.attn_factor", "1 without yarn or longrope scaling")
    return replace(plain, kind="linear", factor=_factor(rope)) if kind == "linear" else plain


def _kind(rope: Fields, tensors: Mapping[str, StoredTensor]) -> str:
    # A factor without a type means linear; a factor of 0 or 1 means none.
    plain = "linear" if rope.number("scaling.factor", 0.0) not in (0.0, 1.0) else "none"
    kind = rope.choice("scaling.type", KINDS, plain)
    if kind == "linear" and plain == "none":
        kind = "default"
    if LONG in tensors or SHORT in tensors:
        hidden = "longrope"
    elif DIVISORS in tensors:
        hidden = "llama3"
    else:
        return kind
    if kind not in ("default", hidden) or (DIVISORS in tensors and hidden == "longrope"):
        raise BadInput(
            f"the tensors ask for {hidden} rope scaling, other settings for {kind}",
            where=Where(path=str(rope.path)),
            hint="convert the model again with a recent llama.cpp",
        )
    return hidden


def _factor(rope: Fields) -> float:
    factor = rope.number("scaling.factor")
    if factor <= 0:
        raise rope.bad("scaling.factor", "positive")
    return factor


def _yarn(plain: Rope, fields: Fields) -> Rope:
    rope = fields.under("rope.")
    if rope.number("scaling.yarn_ext_factor", 1.0) != 1.0:
        raise rope.bad("scaling.yarn_ext_factor", "1")
    factor = _factor(rope)
    own = 0.1 * math.log(factor) + 1.0 if factor > 1.0 else 1.0
    attention = rope.number("scaling.yarn_attn_factor", own)
    return replace(
        plain,
        kind="yarn",
        factor=factor,
        original_context=_original(fields),
        attention_factor=attention * rope.number("scaling.attn_factor", 1.0),
        beta_fast=rope.number("scaling.yarn_beta_fast", 32.0),
        beta_slow=rope.number("scaling.yarn_beta_slow", 1.0),
    )


def _longrope(plain: Rope, fields: Fields, tensors: Mapping[str, StoredTensor]) -> Rope:
    for name in (LONG, SHORT):
        if name not in tensors:
            raise BadInput(f"tensor {name} is missing", where=Where(path=str(fields.path)))
    original = _original(fields)
    return replace(
        plain,
        kind="longrope",
        factor=fields.integer("context_length", low=1) / original,
        original_context=original,
        attention_factor=fields.number("rope.scaling.attn_factor", 1.0),
        short_factors=_vector(tensors[SHORT]),
        long_factors=_vector(tensors[LONG]),
    )


def _original(fields: Fields) -> int:
    longest = fields.integer("context_length", low=1)
    return fields.integer("rope.scaling.original_context_length", longest, low=1)


def _vector(tensor: StoredTensor) -> tuple[float, ...]:
    if tensor.format != "F32" or len(tensor.shape) != 1 or tensor.shape[0] > 4096:
        raise BadInput(
            f"tensor {tensor.name} is {tensor.format} {list(tensor.shape)}",
            where=Where(path=str(tensor.path)),
            hint="it must be a short vector of F32",
        )
    values = StoredMatrix(tensor.path, tensor.offset, "F32", tensor.shape).decode()
    return tuple(map(float, values))
