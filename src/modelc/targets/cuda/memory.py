"""What a running bundle holds on a device: weights, the paged cache, the arena, inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelc.errors import Damaged, Where
from modelc.targets.cuda.inputs import INPUTS, SEEN
from modelc.targets.cuda.memory_sizes import seen_sides
from modelc.targets.cuda.plan import Buffer, Function, LaunchPlan
from modelc.targets.cuda.seen import Seen
from modelc.targets.cuda.staging import Staging, make_staging
from modelc.targets.cuda.torch_types import torch_type

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Memory:
    """Tensors on one device.

    Attributes:
        caches: key_cache.N and value_cache.N [pages, heads, page, head_dim].
        staging: the inputs.
        seen: which tokens each sequence has.
        pages: of the cache, for all sequences together.
    """

    weights: Mapping[str, torch.Tensor]
    caches: Mapping[str, torch.Tensor]
    staging: Staging
    seen: Seen
    arena: torch.Tensor
    pages: int

    def tensor(self, function: Function, name: str, sizes: Mapping[str, int]) -> torch.Tensor:
        """Return what a name stands for in a call of these sizes."""
        if name in function.buffers:
            return self._view(function.buffers[name], sizes)
        for tensors in (self.weights, self.caches):
            if name in tensors:
                return tensors[name]
        if name == SEEN:
            return self.seen.rows[: sizes["sequences"]]
        return self.staging.inputs[name][: INPUTS[name].dims[0].of(sizes)]

    def address(self, function: Function, name: str) -> int:
        """Return where a tensor begins: the same in every call."""
        most: Mapping[str, int] = function.most
        return int(self.tensor(function, name, most).data_ptr())

    def _view(self, buffer: Buffer, sizes: Mapping[str, int]) -> torch.Tensor:
        dims = [dim.of(sizes) for dim in buffer.dims]
        piece = self.arena[buffer.offset : buffer.offset + buffer.size(sizes)]
        return piece.view(torch_type(buffer.type)).view(dims)

    @property
    def nbytes(self) -> int:
        """Of all tensors."""
        inputs = (self.staging.device, self.seen.rows)
        every = (*self.weights.values(), *self.caches.values(), *inputs, self.arena)
        return sum(tensor.nbytes for tensor in every)


def allocate(plan: LaunchPlan, weights_file: Path, device: str, pages: int) -> Memory:
    """Load the weights and allocate the rest.

    Args:
        device: "cpu", or torch's name of a GPU.
        pages: of the cache.

    Raises:
        Damaged: the file of weights isn't the plan's.
    """
    import torch

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
        staging=make_staging(plan, device),
        seen=Seen(torch.zeros(seen_sides(plan), dtype=torch.uint8, device=device)),
        arena=torch.zeros(plan.arena, dtype=torch.uint8, device=device),
        pages=pages,
    )


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
