"""e4m3's codes by integers against PyTorch's."""

import torch
import triton
import triton.language as tl

from modelc.targets.cuda.kernels.e4m3 import UP, halves, narrowed, widened

E4M3, U8 = torch.float8_e4m3fn, torch.uint8
ALL = torch.arange(256, dtype=torch.uint8)


@triton.jit
def _narrow(x, codes, COUNT: tl.constexpr):
    at = tl.arange(0, COUNT)
    tl.store(codes + at, narrowed(tl.load(x + at), codes.dtype.element_ty))


@triton.jit
def _widen(codes, words, x, low, high, COUNT: tl.constexpr):
    at = tl.arange(0, COUNT)
    tl.store(x + at, widened(tl.load(codes + at), tl.float16).to(tl.float32))
    at = tl.arange(0, COUNT // 2)
    first, second = halves(tl.load(words + at))
    tl.store(low + at, first.to(tl.float32) * UP)
    tl.store(high + at, second.to(tl.float32) * UP)


def test_numbers_become_codes() -> None:
    exact = ALL.view(E4M3).float().nan_to_num(1000.0)
    between = (exact[:126] + exact[1:127]) / 2  # rounded to even
    x = torch.cat([exact, between, -between, torch.randn(500) * 100, torch.randn(8) * 1e-3])
    x = torch.cat([x, torch.tensor([torch.inf, torch.nan]), torch.zeros(2048 - len(x) - 2)])
    expected = x.clamp(-448, 448).to(E4M3).view(U8)
    expected[x.isnan()] = 0x7F
    for kind in (U8, E4M3):
        codes = torch.zeros(2048, dtype=U8)
        _narrow[(1,)](x, codes.view(kind), 2048)
        assert torch.equal(codes, expected)


def test_codes_become_numbers() -> None:
    numbers = (ALL & 0x7F) != 0x7F
    expected = ALL.view(E4M3).float()
    for kind in (U8, E4M3):
        x, low, high = torch.zeros(256), torch.zeros(128), torch.zeros(128)
        _widen[(1,)](ALL.view(kind), ALL.view(torch.uint16), x, low, high, 256)
        assert torch.equal(x[numbers], expected[numbers])
        pairs = torch.stack([low, high], 1).flatten()
        assert torch.equal(pairs[numbers], expected[numbers])
