"""Genie's tensor contract: what the graphs that it runs call their inputs and outputs.

Shapes, for AR new tokens, context length CL, V tokens, KV key heads of width D, a rotary embedding
over R of them:

    input_ids           int32 [1, AR]
    attention_mask      [1, 1, AR, CL]: columns [0, CL - AR) past, the last AR the new tokens
    position_ids_cos    [1, 1, AR, R / 2], half-split layout; position_ids_sin likewise
    past_key_{L}_in     [KV, 1, D, CL - AR], keys transposed;  past_key_{L}_out   [KV, 1, D, AR]
    past_value_{L}_in   [KV, 1, CL - AR, D];                   past_value_{L}_out [KV, 1, AR, D]
    logits              [1, AR, V]

All but the tokens are float, or integer codes where the graph is quantised.
"""

from __future__ import annotations

from typing import Final, Literal

INPUT_IDS: Final = "input_ids"
MASK: Final = "attention_mask"
COS: Final = "position_ids_cos"
SIN: Final = "position_ids_sin"
LOGITS: Final = "logits"


def cache(kind: Literal["key", "value"], layer: int, direction: Literal["in", "out"]) -> str:
    """Return the name of a layer's KV cache input or output."""
    return f"past_{kind}_{layer}_{direction}"


def is_cache(name: str) -> bool:
    """Return whether a tensor is a layer's KV cache, in or out."""
    return name.startswith(("past_key_", "past_value_"))
