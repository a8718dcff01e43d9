"""Norms against PyTorch's, and their codes against PyTorch's conversion."""

from pathlib import Path

import pytest
import torch
from support.cuda_kernels import Tensors, close, compile_at_ends, run_both, variant_of

EPSILON = 1e-5
BOTH = pytest.mark.parametrize("act", [torch.float16, torch.bfloat16])


def empty(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.full(shape, torch.nan).to(dtype)


def tensors(tokens: int, width: int, act: torch.dtype) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "x": torch.randn(tokens, width).to(act),
        "weight": torch.rand(width) + 0.5,
        "out": empty(tokens, width, dtype=act),
    }


def added(tokens: int, width: int, act: torch.dtype) -> dict[str, torch.Tensor]:
    return tensors(tokens, width, act) | {
        "residual": torch.randn(tokens, width).to(act) * 3,
        "total": empty(tokens, width, dtype=act),
    }


def quantised(given: Tensors, group: int) -> dict[str, torch.Tensor | None]:
    tokens, width = given["x"].shape
    return dict(given) | {
        "codes": empty(tokens, width, dtype=torch.float8_e4m3fn),
        "scales": empty(tokens, width // group, dtype=torch.float32),
    }


def theirs(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.rms_norm(x.float(), x.shape[-1:], weight, EPSILON)


def decoded(results: Tensors, group: int) -> torch.Tensor:
    grouped = results["codes"].float().unflatten(-1, (-1, group))
    return (grouped * results["scales"][..., None]).flatten(-2)


def almost_equal_codes(measured: torch.Tensor, expected: torch.Tensor) -> None:
    """The same but for few that lie between two codes."""
    off = measured.view(torch.uint8) != expected.view(torch.uint8)
    assert off.float().mean() < 0.005
    close(measured.float(), expected.float(), 0.08)


@BOTH
@pytest.mark.parametrize(("tokens", "width"), [(1, 64), (3, 100), (5, 1024), (2, 8192), (1, 12000)])
def test_rms_norm(tokens: int, width: int, act: torch.dtype) -> None:
    given = tensors(tokens, width, act)
    constants = {"width": width, "epsilon": EPSILON}
    kernel, reference = run_both("rms_norm", given, constants, {"tokens": tokens})
    close(kernel["out"], reference["out"], 0.01)
    close(reference["out"], theirs(given["x"], given["weight"]), 0.01)


@BOTH
@pytest.mark.parametrize(("tokens", "width"), [(1, 64), (3, 100), (2, 2048)])
def test_add_rms_norm(tokens: int, width: int, act: torch.dtype) -> None:
    given = added(tokens, width, act)
    constants = {"width": width, "epsilon": EPSILON}
    kernel, reference = run_both("add_rms_norm", given, constants, {"tokens": tokens})
    assert torch.equal(kernel["total"], given["x"] + given["residual"])
    assert torch.equal(kernel["total"], reference["total"])
    close(kernel["out"], reference["out"], 0.01)
    close(reference["out"], theirs(given["x"] + given["residual"], given["weight"]), 0.01)


@BOTH
@pytest.mark.parametrize(("width", "group"), [(256, 128), (384, 128), (96, 96), (200, 200)])
def test_codes_of_norms(width: int, group: int, act: torch.dtype) -> None:
    given = quantised(added(3, width, act), group)
    given["x"][1] = given["residual"][1] = 0  # type: ignore[index]
    constants = {"width": width, "epsilon": EPSILON, "group": group}
    for name in ("rms_norm_fp8", "add_rms_norm_fp8"):
        kernel, reference = run_both(name, given, constants, {"tokens": 3})
        close(kernel["scales"], reference["scales"], 0.01)
        almost_equal_codes(kernel["codes"], reference["codes"])
        close(kernel["out"], reference["out"], 0.01)
        summed = given["x"] + given["residual"] if "total" in reference else given["x"]
        close(decoded(kernel, group), theirs(summed, given["weight"]), 0.04)
        assert (kernel["scales"][1] == 1).all()  # nothing is there to scale
        assert kernel["scales"].min() > 0


@BOTH
def test_codes_by_a_static_scale_saturate(act: torch.dtype) -> None:
    given: dict[str, torch.Tensor | None] = quantised(tensors(2, 256, act), 256)
    given |= {"static_scale": torch.tensor([0.004]), "scales": None, "out": None}
    constants = {"width": 256, "epsilon": EPSILON, "group": 256}
    kernel, reference = run_both("rms_norm_fp8", given, constants, {"tokens": 2})
    almost_equal_codes(kernel["codes"], reference["codes"])
    expected = theirs(given["x"], given["weight"]) / 0.004
    close(kernel["codes"].float(), expected.clamp(-448, 448), 0.04)
    assert expected.abs().max() > 464  # what would not round to 448


def test_norms_compile(tmp_path: Path) -> None:
    variants = [
        variant_of(name, make(1, 8, torch.bfloat16), {"width": width, "epsilon": EPSILON})
        for name, make in (("rms_norm", tensors), ("add_rms_norm", added))
        for width in (896, 4096, 16384)
    ]
    compile_at_ends(variants, tmp_path)


def test_quantised_norms_compile(tmp_path: Path) -> None:
    variants = []
    for group in (128, 4096):
        constants = {"width": 4096, "epsilon": EPSILON, "group": group}
        plain = quantised(tensors(1, 8, torch.bfloat16), 8)
        static = plain | {"static_scale": torch.ones(1), "scales": None, "out": None}
        residual = quantised(added(1, 8, torch.bfloat16), 8)
        variants += [
            variant_of("rms_norm_fp8", plain, constants),
            variant_of("rms_norm_fp8", static, constants),
            variant_of("add_rms_norm_fp8", residual | {"out": None}, constants),
        ]
    compile_at_ends(variants, tmp_path, since=89)
