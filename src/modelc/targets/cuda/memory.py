"""What a running bundle holds on a device: weights, the paged cache, the arena, inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from modelc.errors import Damaged, Where
from modelc.targets.cuda.memory_sizes import INPUT_SIZES, aligned, input_bytes, input_sides
from modelc.targets.cuda.plan import Buffer, Function, LaunchPlan

if TYPE_CHECKING:
    import torch

TORCH_TYPES: Final[Mapping[str, str]] = {
    "bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "i32": "int32", "u8": "uint8",
    "e4m3": "float8_e4m3fn",
}  # fmt: skip
"""Element types of a plan, as torch calls them."""


@dataclass(frozen=True)
class Memory:
    """Tensors on one device.

    Attributes:
        caches: key_cache.N and value_cache.N [pages, heads, page, head_dim].
        inputs: for the greatest call; a call uses their beginnings. They lie in `staged`.
        staged, host: all inputs on the device, and the same on the host: one copy fills all.
        filled: the parts of `host`, by input.
        pages: of the cache, for all sequences together.
    """

    weights: Mapping[str, torch.Tensor]
    caches: Mapping[str, torch.Tensor]
    inputs: Mapping[str, torch.Tensor]
    staged: torch.Tensor
    host: torch.Tensor
    filled: Mapping[str, np.ndarray]
    arena: torch.Tensor
    pages: int

    def tensor(self, function: Function, name: str, sizes: Mapping[str, int]) -> torch.Tensor:
        """Return what a name stands for in a call of these sizes."""
        if name in function.buffers:
            return self._view(function.buffers[name], sizes)
        for tensors in (self.weights, self.caches):
            if name in tensors:
                return tensors[name]
        whole, symbol = self.inputs[name], INPUT_SIZES[name]
        plus = 1 if name == "starts" else 0
        return whole[: sizes[symbol] + plus]

    def _view(self, buffer: Buffer, sizes: Mapping[str, int]) -> torch.Tensor:
        dims = [dim.of(sizes) for dim in buffer.dims]
        piece = self.arena[buffer.offset : buffer.offset + buffer.size(sizes)]
        return piece.view(torch_type(buffer.type)).view(dims)

    @property
    def nbytes(self) -> int:
        """Of all tensors."""
        every = (*self.weights.values(), *self.caches.values(), self.staged, self.arena)
        return sum(tensor.nbytes for tensor in every)


def torch_type(name: str) -> torch.dtype:
    """Return torch's type of a plan's element type."""
    import torch

    found: torch.dtype = getattr(torch, TORCH_TYPES[name])
    return found


def allocate(plan: LaunchPlan, weights_file: Path, device: str, pages: int) -> Memory:
    """Load the weights and allocate the rest.

    Args:
        device: "cpu", or torch's name of a GPU.
        pages: of the cache.

    Raises:
        Damaged: the file of weights isn't the plan's.
    """
    import torch

    sides = input_sides(plan)
    staged = torch.zeros(input_bytes(plan) // 4, dtype=torch.int32, device=device)
    host = torch.zeros(staged.shape, dtype=torch.int32, pin_memory=device != "cpu")
    facts = plan.cache
    side = (pages, facts.heads, facts.page, facts.head_dim)
    cache_type = torch_type(facts.type)
    return Memory(
        weights=load_weights(plan, weights_file, device),
        caches={
            f"{which}_cache.{layer}": torch.zeros(side, dtype=cache_type, device=device)
            for layer in range(facts.layers)
            for which in ("key", "value")
        },
        inputs=_views(staged, sides),
        staged=staged,
        host=host,
        filled={name: view.numpy() for name, view in _views(host, sides).items()},
        arena=torch.zeros(plan.arena, dtype=torch.uint8, device=device),
        pages=pages,
    )


def _views(block: torch.Tensor, sides: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Return the inputs' places in one block, each aligned as kernels expect."""
    views, first = {}, 0
    for name, dims in sides.items():
        count = math.prod(dims)
        views[name] = block[first : first + count].view(dims)
        first += aligned(count)
    return views


def load_weights(plan: LaunchPlan, path: Path, device: str) -> dict[str, torch.Tensor]:
    """Load the plan's weights.

    Raises:
        Damaged: one is missing, or of another type or shape.
    """
    from safetensors import SafetensorError, safe_open

    weights: dict[str, Any] = {}
    try:
        with safe_open(path, framework="pt", device=device) as file:
            names = set(file.keys())
            for name, facts in plan.weights.items():
                if name not in names:
                    raise Damaged(f"it has no {name}")
                tensor = file.get_tensor(name)
                if tensor.dtype != torch_type(facts.type) or tuple(tensor.shape) != facts.shape:
                    raise Damaged(f"{name} is {tensor.dtype} {tuple(tensor.shape)}")
                weights[name] = tensor
    except (OSError, SafetensorError, Damaged) as error:
        raise Damaged(
            f"these are not the launch plan's weights: {error}", where=Where(path=str(path))
        ) from error
    return weights
