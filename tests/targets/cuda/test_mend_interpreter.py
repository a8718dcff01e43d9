"""The interpreter's conversions and masks against PyTorch's."""

import numpy as np
import pytest
import torch
import triton.language as tl
from support.cuda_kernels import variant_of
from triton.runtime import interpreter

from modelc.targets.cuda.interpret import interpret
from modelc.targets.cuda.mend_interpreter import mend_rounding, mend_splat

BITS = {tl.bfloat16: torch.bfloat16, tl.float8e4nv: torch.float8_e4m3fn}


def test_float32_is_rounded_to_the_nearest_and_ties_to_even() -> None:
    mend_rounding()
    builder = interpreter.InterpreterBuilder()
    torch.manual_seed(0)
    ties = torch.tensor([1.0 + 2**-8, 1.0 + 3 * 2**-8, 1.0625, 1.1875, 1.9375, 2**-10, 447.0])
    values = torch.cat([ties, torch.randn(500) * torch.logspace(-4, 2, 500)])
    for kind, dtype in BITS.items():
        given = interpreter.TensorHandle(values.numpy(), tl.float32)
        mode = interpreter._ir.ROUNDING_MODE.RTNE
        converted = builder.create_fp_to_fp(given, kind, mode).data
        expected = values.to(dtype).view(torch.uint8).numpy()
        assert np.array_equal(np.ascontiguousarray(converted).view(np.uint8), expected)


def test_a_comparison_of_scalars_makes_a_mask() -> None:
    mend_splat()
    builder = interpreter.InterpreterBuilder()
    truth = interpreter.TensorHandle(np.array([True]), tl.int64)
    spread = builder.create_splat(tl.block_type(tl.int1, [4]), truth)
    assert spread.data.dtype == np.bool_
    assert spread.data.all()


def test_the_language_is_replaced_once_in_a_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the number of calls; and it is the compiler's again afterwards."""
    patch, looked = interpreter._patch_builtin, []
    monkeypatch.setattr(
        interpreter, "_patch_builtin", lambda *given: (looked.append(given), patch(*given))
    )
    counts = []
    for outputs in (8, 64):
        sizes = {"x": (2, 32), "w": (outputs, 32), "out": (2, outputs)}
        given = {name: torch.ones(size).half() for name, size in sizes.items()}
        constants = {"N": outputs, "K": 32, "activation": "none", "most": 2}
        before = len(looked)
        interpret(variant_of("linear_few", given, constants), given, {"tokens": 2})
        counts.append(len(looked) - before)
        assert given["out"].eq(32).all()
        assert tl.core.is_builtin(tl.load) and tl.core.is_builtin(tl.tensor.to)
    assert max(counts) <= 10  # a few namespaces of two modules
