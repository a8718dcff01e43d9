"""Attention over a paged cache, and writing to it, against Transformers' and PyTorch's."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.cuda_kernels import close, compile_everywhere, reference_of, run_both
from support.paged_cache import E4M3, Paged, Shape, paged, theirs

from modelc.targets.cuda.aot import ARCHES, compile_variants
from modelc.targets.cuda.kernel import Constants, Tile
from modelc.targets.cuda.kernel_table import KERNELS
from modelc.targets.cuda.rows.attention import SHARED
from modelc.targets.cuda.variant import Variant

BF16, FP16, U8 = torch.bfloat16, torch.float16, torch.uint8

SHAPES = [
    Shape(),
    Shape(heads=7, kv_heads=1, act=BF16, kv=BF16, window=9),
    Shape(heads=2, kv_heads=2, head_dim=80, softcap=5.0),
    Shape(head_dim=128, page=32, softcap=3.0, window=21, act=BF16, kv=BF16),
    Shape(page=8, window=19),
    Shape(kv=E4M3, scales=True),
    Shape(kv=E4M3, act=BF16, head_dim=80, window=30),
    Shape(kv=U8, scales=True, window=1),
]
TOLERANCE = {FP16: 0.003, BF16: 0.02}


def small(shape: Shape) -> Tile:
    """Many blocks where sequences are short; of keys, more than a page has, if a page is small."""
    width = 128 if shape.head_dim > 64 else 64
    return Tile({"BLOCK_M": 16, "BLOCK_N": 16, "BLOCK_D": width})


def prefill(shape: Shape, cache: Paged, counts: list[int], padding: int = 0) -> dict[str, Any]:
    """Tensors of a call with so many tokens for each sequence, and some for none."""
    tokens = sum(counts) + padding
    starts = torch.tensor([0, *counts]).cumsum(0).int()
    queries = torch.randn(tokens, shape.heads * shape.head_dim).to(shape.act)
    return {
        **cache.tensors, "queries": queries, "starts": starts, "out": torch.full_like(queries, torch.nan),
    }  # fmt: skip


def sizes(given: dict[str, Any]) -> dict[str, int]:
    return {
        "tokens": len(given["queries"]),
        "sequences": len(given["lengths"]),
        "max_pages": given["block_tables"].shape[1],
    }


@pytest.mark.parametrize("shape", SHAPES)
def test_prefill(shape: Shape) -> None:
    lengths, counts = [21, 0, 50, 5], [21, 0, 23, 5]
    cache = paged(shape, lengths)
    given = prefill(shape, cache, counts, padding=3)
    kernel, reference = run_both(
        "attention_prefill", given, shape.constants, sizes(given), small(shape)
    )
    close(kernel["out"], reference["out"], TOLERANCE[shape.act])
    begin = 0
    for sequence, count in enumerate(counts):
        rows = slice(begin, begin + count)
        if count:
            expected = theirs(
                shape, given["queries"][rows], cache.keys[sequence], cache.values[sequence]
            )
            close(reference["out"][rows], expected, TOLERANCE[shape.act])
        begin += count
    assert not kernel["out"][begin:].any()


def test_a_prompt_in_chunks_is_the_prompt() -> None:
    shape = Shape(window=25)
    cache = paged(shape, [70])
    whole = prefill(shape, cache, [70])
    expected, _ = run_both(
        "attention_prefill", whole, shape.constants, sizes(whole), small(shape)
    )
    for begin, end in ((0, 30), (30, 31), (31, 70)):
        part = {
            **whole,
            "queries": whole["queries"][begin:end],
            "out": whole["out"][begin:end],
            "starts": torch.tensor([0, end - begin], dtype=torch.int32),
            "lengths": torch.tensor([end], dtype=torch.int32),
        }
        kernel, _ = run_both("attention_prefill", part, shape.constants, sizes(part), small(shape))
        close(kernel["out"], expected["out"][begin:end], 0.002)


def test_pages_that_a_window_has_left_are_not_read() -> None:
    for page in (8, 16):
        shape = Shape(page=page, window=10)
        cache = paged(shape, [60])
        left = (60 - 5 - 9) // page
        tables = cache.tensors["block_tables"]
        tables[0, :left] = 1 << 20
        given = prefill(shape, cache, [5])
        with pytest.raises(IndexError):
            reference_of("attention_prefill")(**given, **shape.constants)
        tables[0, :left] = tables[0, left]
        expected = given["out"].clone()
        reference_of("attention_prefill")(**{**given, "out": expected}, **shape.constants)


@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_decode_and_merge(shape: Shape, splits: int) -> None:
    lengths = [21, 0, 70, 1, 16]
    cache = paged(shape, lengths)
    row = (len(lengths), shape.heads, splits)
    given = {
        **cache.tensors,
        "queries": torch.randn(len(lengths), shape.heads * shape.head_dim).to(shape.act),
        "partial": torch.full((*row, shape.head_dim), torch.nan),
        "stats": torch.full((*row, 2), torch.nan),
    }
    constants = {**shape.constants, "splits": splits}
    kernel, reference = run_both("attention_decode", given, constants, sizes(given), small(shape))
    for name in ("partial", "stats"):
        assert torch.equal(kernel[name].isinf(), reference[name].isinf())
        close(kernel[name].nan_to_num(neginf=0), reference[name].nan_to_num(neginf=0), 0.01)

    merge = {**kernel, "out": torch.full_like(given["queries"], torch.nan)}
    constants = {name: constants[name] for name in KERNELS["attention_merge"].constants}
    merged, expected = run_both("attention_merge", merge, constants, sizes(given))
    close(merged["out"], expected["out"], 0.001 if shape.act == FP16 else 0.008)
    for sequence, length in enumerate(lengths):
        mine = merged["out"][sequence]
        if length == 0:
            assert not mine.any()
            continue
        query = given["queries"][sequence : sequence + 1]
        found = theirs(shape, query, cache.keys[sequence], cache.values[sequence])
        close(mine[None], found, TOLERANCE[shape.act])
