"""Random tensors for a call of a launch plan, such as a running model would give it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Final

from modelc.targets.cuda.inputs import INPUTS
from modelc.targets.cuda.plan import Call, Function, LaunchPlan
from modelc.targets.cuda.torch_types import torch_type
from modelc.targets.cuda.variant import Variant

if TYPE_CHECKING:
    import torch

Sides = tuple[int, ...]


@dataclass(frozen=True)
class CallSizes:
    """The sizes of a call at a function's greatest, and how long its sequences are by then.

    When decoding, each sequence fills the context; a prefill is of one sequence.
    """

    tokens: int
    sequences: int
    rows: int
    max_pages: int
    length: int

    @classmethod
    def greatest(cls, plan: LaunchPlan, function: Function) -> CallSizes:
        most = function.most
        decodes = function.kind == "decode"
        sequences = most["sequences"] if decodes else 1
        length = plan.context_length if decodes else max(most["tokens"], plan.context_length // 2)
        return cls(most["tokens"], sequences, most["rows"], most["max_pages"], length)

    @property
    def symbols(self) -> Mapping[str, int]:
        """By the names that extents go by."""
        return {
            "tokens": self.tokens,
            "sequences": self.sequences,
            "rows": self.rows,
            "max_pages": self.max_pages,
        }


def random_call(
    plan: LaunchPlan, function: Function, call: Call, device: str
) -> tuple[CallSizes, dict[str, torch.Tensor]]:
    """Return the sizes of a launch's greatest call, and its tensors by the plan's names."""
    sizes = CallSizes.greatest(plan, function)
    variant = plan.variants[call.kernel]
    shapes = {name: _shape(plan, function, name, sizes) for name in call.tensors.values()}
    tensors: dict[str, torch.Tensor] = {}
    for parameter, name in call.tensors.items():
        if name not in tensors:
            type = variant.types[parameter]
            tensors[name] = random_tensor(parameter, type, shapes[name], device)
    _fill_inputs(plan, variant, call, sizes, tensors)
    return sizes, tensors


def random_tensor(parameter: str, type: str, shape: Sides, device: str) -> torch.Tensor:
    """Return numbers of a type, suited to what a kernel's parameter is: scales are small and
    positive, zero points have 4 bits."""
    import torch

    fill = _FILLS.get(parameter)
    if fill is not None:
        return fill(shape, device).to(torch_type(type))
    if type == "u8":
        return torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
    if type in ("i32", "i64"):
        return torch.zeros(shape, dtype=torch_type(type), device=device)
    if prod(shape) <= _AT_ONCE:
        return torch.randn(shape, device=device).to(torch_type(type))
    # Of a large weight float32 would be four times the memory.
    out = torch.empty(prod(shape), dtype=torch_type(type), device=device)
    part = torch.randn(_AT_ONCE, device=device).to(out.dtype)
    for first in range(0, len(out), _AT_ONCE):
        piece = out[first : first + _AT_ONCE]
        piece.copy_(part[: len(piece)])
    return out.view(shape)


_AT_ONCE: Final = 1 << 26


def _small(shape: Sides, device: str) -> torch.Tensor:
    import torch

    return torch.rand(shape, device=device) * 0.01 + 0.001


def _nibbles(shape: Sides, device: str) -> torch.Tensor:
    import torch

    return torch.randint(0, 16, shape, device=device)


def _shares(shape: Sides, device: str) -> torch.Tensor:
    import torch

    return torch.rand(shape, device=device) + 0.1


_FILLS: Final[Mapping[str, Callable[[Sides, str], torch.Tensor]]] = {
    **dict.fromkeys(("scales", "x_scales", "key_scale", "value_scale", "static_scale"), _small),
    "zeros": _nibbles,
    "shares": _shares,
    "stats": _shares,
}


def _shape(plan: LaunchPlan, function: Function, name: str, sizes: CallSizes) -> Sides:
    if name in function.buffers:
        return tuple(dim.of(sizes.symbols) for dim in function.buffers[name].dims)
    if name in plan.weights:
        return plan.weights[name].shape
    if name in INPUTS:
        return tuple(dim.of(sizes.symbols) for dim in INPUTS[name].dims)
    cache = plan.cache
    return sizes.sequences * sizes.max_pages, cache.heads, cache.page, cache.head_dim


def _fill_inputs(
    plan: LaunchPlan,
    variant: Variant,
    call: Call,
    sizes: CallSizes,
    tensors: dict[str, torch.Tensor],
) -> None:
    """Put what is an index into its tensors: positions of the ends of sequences, pages in order."""
    import torch

    def put(parameter: str, values: torch.Tensor) -> None:
        if parameter in call.tensors:
            tensor = tensors[call.tensors[parameter]]
            tensor.copy_(values.view(tensor.shape))

    each = sizes.tokens // sizes.sequences
    sequence = torch.arange(sizes.sequences)
    place = torch.arange(sizes.length - each, sizes.length)
    pages = torch.arange(sizes.sequences * sizes.max_pages)
    ids = torch.randint(0, plan.vocabulary, (sizes.tokens,))
    slots = (sequence[:, None] * sizes.max_pages * plan.cache.page + place).flatten()
    put("token_ids", ids)
    put("positions", place.repeat(sizes.sequences))
    put("slots", slots)
    put("block_tables", pages)
    put("starts", torch.arange(sizes.sequences + 1) * each)
    put("lengths", torch.full((sizes.sequences,), sizes.length))
    put("wanted", torch.arange(sizes.rows) % sizes.tokens)
    if {"ids", "order"} & set(call.tensors) and "used" in variant.constants:
        chosen = _chosen_experts(plan, variant, call, sizes.tokens)
        if not _is_written(variant, "ids"):
            put("ids", chosen)
        if not _is_written(variant, "order"):
            _put_order(variant, call, chosen, tensors)


def _chosen_experts(plan: LaunchPlan, variant: Variant, call: Call, tokens: int) -> torch.Tensor:
    """i32 [tokens, used]; all experts are as likely."""
    import torch

    constants = variant.constants
    if "experts" in constants:
        count = int(constants["experts"])
    else:
        weight = plan.weights[call.tensors.get("w") or call.tensors["codes"]]
        rows = int(constants["N"]) * (1 if constants["activation"] == "none" else 2)
        width = int(constants["K"]) // (2 if "codes" in call.tensors else 1)
        count = prod(weight.shape) // (rows * width)
    return torch.rand(tokens, count).topk(int(constants["used"])).indices.int()


def _put_order(
    variant: Variant, call: Call, chosen: torch.Tensor, tensors: Mapping[str, torch.Tensor]
) -> None:
    from modelc.targets.cuda.reference.group_pairs import group_pairs

    if "order" not in call.tensors:
        return
    order, tile_expert = (tensors[call.tensors[name]] for name in ("order", "tile_expert"))
    cpu = order.cpu(), tile_expert.cpu()
    sizes = {name: int(variant.constants[name]) for name in ("experts", "used", "block")}
    group_pairs(ids=chosen, order=cpu[0], tile_expert=cpu[1], **sizes)
    order.copy_(cpu[0])
    tile_expert.copy_(cpu[1])


def _is_written(variant: Variant, parameter: str) -> bool:
    return any(tensor.name == parameter and tensor.written for tensor in variant.row.tensors)
