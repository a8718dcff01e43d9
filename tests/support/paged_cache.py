"""Sequences in a paged cache, for tests of attention."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

E4M3 = torch.float8_e4m3fn


@dataclass(frozen=True)
class Shape:
    """What attention is compiled for; `kv` is the cache's type, uint8 for e4m3's bytes."""

    heads: int = 2
    kv_heads: int = 1
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
    """What ONNX's reference gives for a sequence's last queries [count, heads * head_dim]."""
    from onnx.reference.ops.op_attention import _compute_attention

    count = len(queries)
    past = keys.shape[1] - count
    heads = queries.float().view(1, count, shape.heads, shape.head_dim).transpose(1, 2)
    out, *_ = _compute_attention(
        heads.numpy(), keys[None, :, past:].numpy(), values[None, :, past:].numpy(),
        past_key=keys[None, :, :past].numpy(), past_value=values[None, :, :past].numpy(),
        scale=shape.constants["scale"], softcap=shape.softcap, is_causal=True,
        left_window_size=shape.window - 1,
    )  # fmt: skip
    return torch.from_numpy(out).transpose(1, 2).reshape(count, -1)
