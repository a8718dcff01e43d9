"""Elementwise kernels against PyTorch and the modules of transformers."""

from pathlib import Path

import pytest
import torch
from support.cuda_kernels import close, compile_at_ends, run_both, variant_of
from torch.nn import functional
from transformers.activations import ACT2FN

BOTH = pytest.mark.parametrize("act", [torch.float16, torch.bfloat16])
SHAPES = pytest.mark.parametrize(("tokens", "width"), [(1, 64), (3, 100), (2, 1500)])
THEIR_NAMES = {"silu": "silu", "gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh"}


def random(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def empty(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.full(shape, torch.nan, dtype=dtype)


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")  # 1 / (1 + inf) is right
@BOTH
@SHAPES
@pytest.mark.parametrize("activation", THEIR_NAMES)
def test_gated(tokens: int, width: int, act: torch.dtype, activation: str) -> None:
    given = {
        "x": random(tokens, 2 * width, dtype=act) * 4,
        "out": empty(tokens, width, dtype=act),
    }
    constants = {"width": width, "activation": activation}
    kernel, reference = run_both("gated", given, constants, {"tokens": tokens})
    close(kernel["out"], reference["out"], 0.005)
    gate, up = given["x"].float().chunk(2, -1)
    close(reference["out"], ACT2FN[THEIR_NAMES[activation]](gate) * up, 0.005)


@BOTH
@SHAPES
def test_add(tokens: int, width: int, act: torch.dtype) -> None:
    x, y = random(tokens, width, dtype=act), random(width, tokens, dtype=act).T.contiguous()
    given = {"x": x, "y": y, "out": empty(tokens, width, dtype=act)}
    kernel, reference = run_both("add", given, {"width": width}, {"tokens": tokens})
    assert torch.equal(kernel["out"], x + y)
    assert torch.equal(reference["out"], x + y)


@BOTH
@SHAPES
def test_add_gated(tokens: int, width: int, act: torch.dtype) -> None:
    x, y = random(tokens, width, dtype=act), random(width, tokens, dtype=act).T.contiguous()
    gate = random(tokens, 1, dtype=act)
    given = {"x": x, "y": y, "gate": gate, "out": empty(tokens, width, dtype=act)}
    kernel, reference = run_both("add_gated", given, {"width": width}, {"tokens": tokens})
    close(kernel["out"], reference["out"], 0.005)
    close(reference["out"], x.double() + functional.sigmoid(gate.double()) * y.double(), 0.005)


@BOTH
@pytest.mark.parametrize("scale", [1.0, 7.5])
def test_embed(act: torch.dtype, scale: float) -> None:
    ids, table = torch.tensor([4, 0, 8, 4], dtype=torch.int32), random(9, 100, dtype=act)
    given = {"token_ids": ids, "table": table, "out": empty(4, 100, dtype=act)}
    constants = {"vocab": 9, "width": 100, "scale": scale}
    kernel, reference = run_both("embed", given, constants, {"tokens": 4})
    assert torch.equal(kernel["out"], functional.embedding(ids, table) * scale)
    assert torch.equal(reference["out"], kernel["out"])


def test_ids_that_the_table_lacks_give_zeros() -> None:
    ids = torch.tensor([9, 2, -1, 2**31 - 1, -(2**31)], dtype=torch.int32)
    table = random(9, 64, dtype=torch.float16)
    given = {"token_ids": ids, "table": table, "out": empty(5, 64, dtype=torch.float16)}
    constants = {"vocab": 9, "width": 64, "scale": 1.0}
    for result in run_both("embed", given, constants, {"tokens": 5}):
        assert torch.equal(result["out"][1], table[2])
        assert result["out"][[0, 2, 3, 4]].eq(0).all()


@BOTH
def test_select_rows(act: torch.dtype) -> None:
    x = random(5, 1100, dtype=act)
    wanted = torch.tensor([4, 0, 5, -1, 0, 2**31 - 1], dtype=torch.int32)
    given = {"x": x, "wanted": wanted, "out": empty(6, 1100, dtype=act)}
    sizes = {"tokens": 5, "rows": 6}
    for result in run_both("select_rows", given, {"width": 1100}, sizes):
        assert torch.equal(result["out"][[0, 1, 4]], x[[4, 0, 0]])
        assert result["out"][[2, 3, 5]].eq(0).all()


def test_softcap() -> None:
    logits = random(3, 1500, dtype=torch.float32) * 40
    logits[0, :4] = torch.tensor([0.0, torch.inf, -torch.inf, 1e30])
    constants = {"width": 1500, "cap": 30.0}
    kernel, reference = run_both("softcap", {"logits": logits}, constants, {"rows": 3})
    close(kernel["logits"], reference["logits"], 1e-6)
    close(reference["logits"], 30.0 * functional.tanh(logits.double() / 30.0), 1e-6)


def test_elementwise_kernels_compile(tmp_path: Path) -> None:
    act = random(1, 8, dtype=torch.bfloat16)
    ids = torch.zeros(1, dtype=torch.int32)
    width = {"width": 4096}
    variants = [
        *(
            variant_of("gated", {"x": act, "out": act}, {"width": 14336, "activation": name})
            for name in THEIR_NAMES
        ),
        variant_of("add", {"x": act, "y": act, "out": act}, width),
        variant_of("add_gated", {"x": act, "y": act, "gate": act, "out": act}, width),
        *(
            variant_of(
                "embed",
                {"token_ids": ids, "table": act, "out": act},
                {"vocab": 128256, "width": 896, "scale": scale},
            )
            for scale in (1.0, 45.25)
        ),
        variant_of("select_rows", {"x": act, "wanted": ids, "out": act}, width),
        variant_of("softcap", {"logits": act.float()}, {"width": 256000, "cap": 30.0}),
    ]
    compile_at_ends(variants, tmp_path)
