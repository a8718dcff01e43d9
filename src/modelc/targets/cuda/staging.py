"""The inputs of calls: one block on the host, which one copy brings to the device."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modelc.targets.cuda.inputs import INPUTS
from modelc.targets.cuda.memory_sizes import aligned, input_sides
from modelc.targets.cuda.plan import LaunchPlan
from modelc.targets.cuda.torch_types import torch_type

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Staging:
    """Inputs for the greatest call, of which a call uses the beginnings.

    Attributes:
        device, host: the block, int32, whatever its parts are.
        inputs: its parts on the device.
        filled: the same on the host.
        copied: recorded behind each copy; None on the CPU.
    """

    device: torch.Tensor
    host: torch.Tensor
    inputs: Mapping[str, torch.Tensor]
    filled: Mapping[str, np.ndarray]
    copied: Any

    def wait(self) -> None:
        """Wait until the host's block may be written: the last copy has read it."""
        if self.copied is not None:
            self.copied.synchronize()

    def upload(self) -> None:
        """Bring the inputs to the device, in the order of what runs there."""
        self.device.copy_(self.host, non_blocking=True)
        if self.copied is not None:
            self.copied.record()


def make_staging(plan: LaunchPlan, device: str) -> Staging:
    """Allocate the inputs of a plan.

    Args:
        device: "cpu", or torch's name of a GPU.
    """
    import torch

    sides, on_gpu = input_sides(plan), device != "cpu"
    count = sum(aligned(math.prod(dims)) for dims in sides.values())
    block = torch.zeros(count, dtype=torch.int32, device=device)
    host = torch.zeros(count, dtype=torch.int32, pin_memory=on_gpu)
    return Staging(
        device=block,
        host=host,
        inputs=_parts(block, sides),
        filled={name: part.numpy() for name, part in _parts(host, sides).items()},
        copied=torch.cuda.Event() if on_gpu else None,  # type: ignore[no-untyped-call]
    )


def _parts(block: torch.Tensor, sides: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Return the inputs' places in a block, each aligned as kernels expect."""
    parts, first = {}, 0
    for name, dims in sides.items():
        count = math.prod(dims)
        part = block[first : first + count].view(torch_type(INPUTS[name].type))
        parts[name] = part.view(dims)
        first += aligned(count)
    return parts
