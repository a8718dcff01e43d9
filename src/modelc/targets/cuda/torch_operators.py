"""What no kernel was made for: operators of ONNX that torch computes, each into a given tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch

Attributes = Mapping[str, Any]


def _gelu(x: Sequence[torch.Tensor], attributes: Attributes) -> torch.Tensor:
    import torch

    return torch.nn.functional.gelu(x[0], approximate=attributes.get("approximate", "none"))


def _concat(x: Sequence[torch.Tensor], attributes: Attributes) -> torch.Tensor:
    import torch

    return torch.cat(list(x), dim=int(attributes["axis"]))


def _all_reduce(x: Sequence[torch.Tensor], attributes: Attributes) -> torch.Tensor:
    import torch.distributed as dist

    total = x[0].clone()
    dist.all_reduce(total)
    return total


def _all_gather(x: Sequence[torch.Tensor], attributes: Attributes) -> torch.Tensor:
    import torch
    import torch.distributed as dist

    parts = [torch.empty_like(x[0]) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x[0].contiguous())
    return torch.cat(parts, dim=-1)


COLLECTIVES: Final = frozenset({"AllGather", "AllReduce"})
"""Between devices; there is no kernel that could do it alone."""

OPERATORS: Final[Mapping[str, Callable[[Sequence[torch.Tensor], Attributes], torch.Tensor]]] = {
    "AllGather": _all_gather,
    "AllReduce": _all_reduce,
    "Add": lambda x, _: x[0] + x[1],
    "Concat": _concat,
    "Div": lambda x, _: x[0] / x[1],
    "Gelu": _gelu,
    "Mul": lambda x, _: x[0] * x[1],
    "Neg": lambda x, _: -x[0],
    "Sigmoid": lambda x, _: x[0].sigmoid(),
    "Sub": lambda x, _: x[0] - x[1],
    "Tanh": lambda x, _: x[0].tanh(),
}


def run_operator(
    name: str, inputs: Sequence[torch.Tensor], out: torch.Tensor, attributes: Attributes
) -> None:
    """Compute an operator into `out`."""
    out.copy_(OPERATORS[name](inputs, attributes))
