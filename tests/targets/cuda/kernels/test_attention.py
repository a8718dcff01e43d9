"""Attention over a paged cache, and writing to it, against ONNX's and PyTorch's."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.cuda_kernels import close, run_both
from support.paged_cache import E4M3, Paged, Shape, paged, theirs

from modelc.targets.cuda.aot import compile_variants
from modelc.targets.cuda.gpus import SHARED_BYTES
from modelc.targets.cuda.kernel import Tile
from modelc.targets.cuda.kernel_table import KERNELS
from modelc.targets.cuda.rows.attention import ATTENTION
from modelc.targets.cuda.variant import Variant

BF16, FP16, U8 = torch.bfloat16, torch.float16, torch.uint8

SHAPES = [
    Shape(heads=4, kv_heads=1),
    Shape(heads=7, kv_heads=1, act=BF16, kv=BF16, window=9),
    Shape(kv_heads=2, head_dim=80, softcap=5.0),
    Shape(heads=1, head_dim=128, page=32, softcap=3.0, window=21, act=BF16, kv=BF16),
    Shape(page=8, window=19),
    Shape(kv_heads=2, kv=E4M3, scales=True),
    Shape(heads=1, kv=E4M3, act=BF16, head_dim=80, window=30),
    Shape(heads=1, kv=U8, scales=True, window=1),
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
        **cache.tensors,
        "queries": queries,
        "starts": starts,
        "out": torch.full_like(queries, torch.nan),
    }


def sizes(given: dict[str, Any]) -> dict[str, int]:
    return {
        "tokens": len(given["queries"]),
        "sequences": len(given["lengths"]),
        "max_pages": given["block_tables"].shape[1],
    }


@pytest.mark.parametrize("shape", SHAPES)
def test_prefill(shape: Shape) -> None:
    lengths, counts = [5, 0, 50], [5, 0, 23]
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
    shape = Shape(heads=1, window=25)
    cache = paged(shape, [50])
    whole = prefill(shape, cache, [50])
    tile = small(shape)
    expected, _ = run_both("attention_prefill", whole, shape.constants, sizes(whole), tile)
    for begin, end in ((0, 20), (20, 21), (21, 50)):
        part = {
            **whole,
            "queries": whole["queries"][begin:end],
            "out": whole["out"][begin:end],
            "starts": torch.tensor([0, end - begin], dtype=torch.int32),
            "lengths": torch.tensor([end], dtype=torch.int32),
        }
        kernel, _ = run_both("attention_prefill", part, shape.constants, sizes(part), tile)
        close(kernel["out"], expected["out"][begin:end], 0.002)


@pytest.mark.parametrize("page", [8, 16])
def test_pages_that_a_window_has_left_are_not_read(page: int) -> None:
    shape = Shape(heads=1, page=page, window=10)
    cache = paged(shape, [60])
    given = prefill(shape, cache, [5])
    _, expected = run_both("attention_prefill", given, shape.constants, sizes(given), small(shape))
    tables = given["block_tables"]
    assert tables is not None
    unwritten = set(range(len(given["key_cache"]))) - set(tables[0].tolist())
    tables[0, : (60 - 5 - 9) // page] = unwritten.pop()  # full of NaN
    kernel, _ = run_both("attention_prefill", given, shape.constants, sizes(given), small(shape))
    close(kernel["out"], expected["out"], 0.003)


@pytest.mark.parametrize(("shape", "splits"), [*((shape, 3) for shape in SHAPES), (SHAPES[0], 1)])
def test_decode_and_merge(shape: Shape, splits: int) -> None:
    lengths = [70, 0, 16]
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


@pytest.mark.parametrize(
    ("shape", "rotary", "norms"),
    [
        (Shape(heads=7, kv_heads=2), 64, False),
        (Shape(heads=3, kv_heads=1, head_dim=80, act=BF16, kv=BF16), 32, True),
        (Shape(heads=2, kv_heads=2, kv=E4M3, scales=True), 48, True),
        (Shape(heads=1, kv_heads=1, act=BF16, kv=U8, scales=True), 64, True),
        (Shape(heads=1, kv_heads=1, kv=U8), 64, False),
    ],
)
def test_rope_write(shape: Shape, rotary: int, norms: bool) -> None:
    from onnx.reference.ops.op_rotary_embedding import rotary_embedding

    heads, kv_heads, head_dim, page = shape.heads, shape.kv_heads, shape.head_dim, shape.page
    cache = paged(shape, [40]).tensors
    positions = torch.tensor([3, 17, 0, 1 << 20, 39], dtype=torch.int32)
    slots = torch.tensor([35, 16, 0, -1, 7], dtype=torch.int32)
    angles = torch.rand(40, rotary // 2) * 6
    qkv = torch.randn(5, (heads + 2 * kv_heads) * head_dim) * (20 if shape.kv == U8 else 1)
    qkv[0, -1] = 1e4  # more than e4m3 reaches
    given = {
        "qkv": qkv.to(shape.act),
        "query_norm": torch.rand(head_dim) + 0.5 if norms else None,
        "key_norm": torch.rand(head_dim) + 0.5 if norms else None,
        "cos": angles.cos(), "sin": angles.sin(), "positions": positions, "slots": slots,
        "queries": torch.full((5, heads * head_dim), torch.nan, dtype=shape.act),
        **{name: cache[name] for name in ("key_scale", "value_scale", "key_cache", "value_cache")},
    }  # fmt: skip
    constants = {
        "heads": heads, "kv_heads": kv_heads, "head_dim": head_dim, "rotary": rotary, "page": page,
        "epsilon": 1e-6,
    }  # fmt: skip
    kernel, reference = run_both("rope_write", given, constants, {"tokens": 5})
    close(kernel["queries"], reference["queries"], 0.01)
    for name in ("key_cache", "value_cache"):
        measured, expected = (numbers(found[name]) for found in (kernel, reference))
        assert torch.equal(measured.isnan(), expected.isnan())
        # The interpreter doesn't round bfloat16. Of e4m3 no more than a few may fall to the other
        # side of the middle between two codes.
        off = (measured - expected).abs()
        assert not (off > expected.abs() / 8 + 2**-9).any()
        assert (off > expected.abs() / 127).sum() <= 0.01 * (~expected.isnan()).sum()

    rows = given["qkv"].float().view(5, -1, head_dim)
    parts = dict(zip("qkv", rows.split([heads, kv_heads, kv_heads], 1), strict=True))
    there = slots >= 0
    for part, norm in (("q", "query_norm"), ("k", "key_norm")):
        if norms:
            parts[part] = torch.nn.functional.rms_norm(parts[part], (head_dim,), given[norm], 1e-6)
        rotated = rotary_embedding(
            parts[part][there].transpose(0, 1)[None].numpy(), given["cos"].numpy(),
            given["sin"].numpy(), positions[None, there].long().numpy(),
            rotary_embedding_dim=rotary,
        )  # fmt: skip
        parts[part] = torch.from_numpy(rotated)[0].transpose(0, 1)
    close(reference["queries"][there], parts["q"].flatten(1), 0.01)
    for name, part in (("key", parts["k"]), ("value", parts["v"][there])):
        written = numbers(reference[f"{name}_cache"])[slots[there] // page, :, slots[there] % page]
        scale = given[f"{name}_scale"]
        expected = part if scale is None else part / scale[:, None]
        if shape.kv in (E4M3, U8):
            expected = expected.clamp(-448, 448)
        assert ((written - expected).abs() <= expected.abs() * 0.07 + 0.01).all()


def numbers(cache: torch.Tensor) -> torch.Tensor:
    return (cache.view(E4M3) if cache.dtype == U8 else cache).float()


LLAMA = {"heads": 32, "kv_heads": 8, "head_dim": 128, "scale": 0.09, "softcap": 0.0, "window": 0}
GEMMA = {"heads": 8, "kv_heads": 4, "head_dim": 256, "scale": 0.06, "softcap": 50.0, "window": 4096}
# Compiling is slow: each architecture has what it alone may refuse. 89 has the least memory.
COMPILED: list[tuple[int, str, dict[str, float]]] = [
    (80, "u8", LLAMA),
    (89, "bf16", GEMMA),
    (90, "bf16", LLAMA),
    (90, "e4m3", LLAMA),
    (100, "e4m3", LLAMA),
]


@pytest.mark.parametrize(("arch", "kv", "model"), COMPILED)
def test_attention_compiles_and_fits(
    arch: int, kv: str, model: dict[str, float], tmp_path: Path
) -> None:
    constants = {**model, "page": 64, "rotary": 64, "epsilon": 1e-6, "splits": 33}
    types = {"act": "bf16", "kv": kv}
    scales = kv != "bf16"
    variants = []
    for row in ATTENTION:
        own = {name: constants[name] for name in row.constants}
        kinds = {
            tensor.name: types.get(tensor.type, tensor.type)
            for tensor in row.tensors
            if not tensor.optional or (scales and "scale" in tensor.name)
        }
        variants.append(Variant(row.name, kinds, own, row.tile(own, arch)))
    cubins = compile_variants(variants, arch, tmp_path, workdir=tmp_path)
    for variant in variants:
        cubin = cubins[variant.key]
        assert cubin.path.read_bytes()[:4] == b"\x7fELF"
        assert cubin.shared <= SHARED_BYTES[arch]
        assert cubin.scratch == 0
