"""Runs kernels on the CPU in Triton's interpreter: slowly, but as they are written."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from modelc.errors import ModelcError
from modelc.targets.cuda.mend_interpreter import mend_calls, mend_dot, mend_rounding, mend_splat
from modelc.targets.cuda.variant import Variant

if TYPE_CHECKING:
    import torch

SWITCH = "TRITON_INTERPRET"


def interpret(
    variant: Variant, tensors: Mapping[str, torch.Tensor | None], sizes: Mapping[str, int]
) -> None:
    """Run one launch; results are written into the tensors.

    Args:
        tensors: by name, each in rows on the CPU.
        sizes: every symbol that the grid or the kernel needs.

    Raises:
        ModelcError: Triton was loaded without its interpreter; `TRITON_INTERPRET=1` must be set in
            the environment before.
    """
    if os.environ.get(SWITCH) != "1":
        raise ModelcError(f"{SWITCH} is not set", hint="start the process with it")
    mend_calls()
    mend_dot()
    mend_rounding()
    mend_splat()
    row = variant.row
    function = kernel_function(variant.kernel)
    grid = tuple(side.of(sizes) for side in row.grid(variant.constants, variant.tile.values))
    if not all(grid):
        return
    arguments: list[Any] = [tensors.get(tensor.name) for tensor in row.tensors]
    arguments += [sizes[name] for name in row.sizes]
    named = {**variant.constants, **variant.tile.values}
    function[grid](*arguments, **named)


def kernel_function(name: str) -> Any:
    """Return a kernel's function, as Triton has wrapped it."""
    return getattr(importlib.import_module(f"modelc.targets.cuda.kernels.{name}"), name)
