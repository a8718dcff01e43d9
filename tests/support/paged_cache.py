"""Sequences in a paged cache, for tests of attention."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import SimpleNamespace

import torch

E4M3 = torch.float8_e4m3fn


@dataclass(frozen=True)
class Shape:
    """What attention is compiled for; `kv` is the cache's type, uint8 for e4m3's bytes."""

    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    page: int = 16
    softcap: float = 0.0
    window: int = 0
    act: torch.dtype = torch.float16
    kv: torch.dtype = torch.float16
    scales: bool = False

    @property
    def constants(self) -> dict[str, float]:
        return {
            "heads": self.heads, "kv_heads": self.kv_heads, "head_dim": self.head_dim,
            "page": self.page, "scale": 1.3 / math.sqrt(self.head_dim), "softcap": self.softcap,
            "window": self.window,
        }  # fmt: skip


@dataclass
class Paged:
    """Caches of sequences whose keys and values are also known in a row, as float32."""

    tensors: dict[str, torch.Tensor | None]
    keys: list[torch.Tensor] = field(default_factory=list)  # [kv_heads, length, head_dim]
    values: list[torch.Tensor] = field(default_factory=list)


def paged(shape: Shape, lengths: list[int], spare: int = 3) -> Paged:
    """Lay sequences into pages in no order. Cells that belong to none are NaN, entries of the table
    that belong to none, of which each sequence has `spare`, are -1."""
    torch.manual_seed(len(lengths))
    pages = [-(-length // shape.page) for length in lengths]
    cells = (sum(pages) + 2, shape.kv_heads, shape.page, shape.head_dim)
    caches = [torch.full(cells, torch.nan).to(stored(shape)) for _ in range(2)]
    scales = [torch.rand(shape.kv_heads) + 0.2 if shape.scales else None for _ in range(2)]
    tables = torch.full((len(lengths), max([*pages, 1]) + spare), -1, dtype=torch.int32)
    free = torch.randperm(cells[0]).tolist()
    result = Paged({})
    for sequence, length in enumerate(lengths):
        mine = [free.pop() for _ in range(pages[sequence])]
        tables[sequence, : len(mine)] = torch.tensor(mine, dtype=torch.int32)
        for cache, scale, rows in zip(caches, scales, (result.keys, result.values), strict=True):
            codes = torch.randn(shape.kv_heads, length, shape.head_dim).to(stored(shape))
            for place in range(length):
                cache[mine[place // shape.page], :, place % shape.page] = codes[:, place]
            rows.append(codes.float() * (1.0 if scale is None else scale[:, None, None]))
    bytes_ = shape.kv == torch.uint8
    result.tensors = {
        "key_cache": caches[0].view(torch.uint8) if bytes_ else caches[0],
        "value_cache": caches[1].view(torch.uint8) if bytes_ else caches[1],
        "key_scale": scales[0],
        "value_scale": scales[1],
        "block_tables": tables,
        "lengths": torch.tensor(lengths, dtype=torch.int32),
    }
    return result


def stored(shape: Shape) -> torch.dtype:
    return E4M3 if shape.kv == torch.uint8 else shape.kv


def theirs(
    shape: Shape, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
) -> torch.Tensor:
    """What Transformers gives for a sequence's last queries [count, heads * head_dim]."""
    from transformers.masking_utils import (
        causal_mask_function,
        sliding_window_causal_mask_function,
    )
    from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward

    count, length = len(queries), keys.shape[1]
    sees = (
        sliding_window_causal_mask_function(shape.window) if shape.window else causal_mask_function
    )
    place = torch.arange(length)
    seen = torch.as_tensor(sees(0, 0, place[length - count :, None], place))
    mask = torch.zeros(count, length).masked_fill(~seen, torch.finfo(torch.float32).min)
    module = SimpleNamespace(num_key_value_groups=shape.heads // shape.kv_heads, training=False)
    heads = queries.float().view(1, count, shape.heads, shape.head_dim).transpose(1, 2)
    out, _ = eager_attention_forward(
        module, heads, keys[None], values[None], mask[None, None],
        scaling=shape.constants["scale"], softcap=shape.softcap or None,
    )  # fmt: skip
    return out.reshape(count, -1)
