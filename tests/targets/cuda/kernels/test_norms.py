"""Norms against PyTorch's."""

from pathlib import Path

import pytest
import torch
from support.cuda_kernels import close, compile_everywhere, run_both, variant_of


def tensors(tokens: int, width: int, act: torch.dtype) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "x": torch.randn(tokens, width).to(act),
        "weight": torch.rand(width) + 0.5,
        "out": torch.full((tokens, width), torch.nan, dtype=act),
    }


@pytest.mark.parametrize("act", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("tokens", "width"), [(1, 64), (3, 100), (5, 1024)])
def test_rms_norm(tokens: int, width: int, act: torch.dtype) -> None:
    given = tensors(tokens, width, act)
    constants = {"width": width, "epsilon": 1e-5}
    kernel, reference = run_both("rms_norm", given, constants, {"tokens": tokens})
    close(kernel["out"], reference["out"], 0.01)
    theirs = torch.nn.functional.rms_norm(given["x"].float(), (width,), given["weight"], 1e-5)
    close(reference["out"], theirs, 0.01)


def test_norms_compile_for_every_architecture(tmp_path: Path) -> None:
    constants = {"width": 4096, "epsilon": 1e-5}
    given = tensors(1, 8, torch.bfloat16)
    compile_everywhere([variant_of("rms_norm", given, constants)], tmp_path)
