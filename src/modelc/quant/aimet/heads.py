"""Encodings of single heads, as graphs with a branch for each head have them (`MhaToSha`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from modelc.errors import BadInput, Where
from modelc.quant.aimet.encodings import TensorEncoding

_OF_HEAD: Final = re.compile(r"(.+)[._]head_(\d{1,4})")


def split_head(name: str) -> tuple[str, int]:
    """Return the tensor of all heads that a tensor is of, and its head: itself and -1 if none."""
    found = _OF_HEAD.fullmatch(name)
    return (found[1], int(found[2])) if found else (name, -1)


def join_heads(name: str, heads: Mapping[int, TensorEncoding], where: Where) -> TensorEncoding:
    """Return a weight's encoding: the heads' scales after each other, as their outputs are.

    Raises:
        BadInput: a head is left out, or they differ in kind.
    """
    ordered = [heads[head] for head in sorted(heads)]
    if len(ordered) == 1 and -1 in heads:
        return ordered[0]
    first = ordered[0]
    kinds = {
        (each.granularity, each.bits, each.symmetric, each.block_size, each.compressed_bits)
        for each in ordered
    }
    if sorted(heads) != list(range(len(heads))) or len(kinds) > 1 or first.granularity == "tensor":
        raise BadInput(
            f"the heads of {name} don't make one weight",
            where=where,
            hint="each head must be there once, and all quantised alike, by channels or blocks",
        )
    factors = [each.block_scales for each in ordered if each.block_scales is not None]
    return replace(
        first,
        scales=np.concatenate([each.scales for each in ordered]),
        offsets=np.concatenate([each.offsets for each in ordered]),
        block_scales=np.concatenate(factors) if factors else None,
    )
