"""Gives the tensors of a mixture of experts their canonical names, one for each expert's matrix.

Checkpoints have them in three forms: Mixtral's own names; one tensor for all experts of a layer, as
transformers 5 holds them ("gate_up_proj", gate and up one above the other) and as llama.cpp does
("gate_proj.weight" and so on, once its frontend has named them); or as they are called here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from modelc.decoder.config import DecoderConfig, Experts
from modelc.errors import BadInput, Where
from modelc.frontends.stored import StoredTensor
from modelc.ir.coded import CodedMatrix

_MIXTRAL: Final[Mapping[str, str]] = {"w1": "gate_proj", "w3": "up_proj", "w2": "down_proj"}
_OF_MIXTRAL: Final = re.compile(r"(model\.layers\.\d+)\.block_sparse_moe\.(.+)")
_ONE: Final = re.compile(r"experts\.(\d+)\.(w[123])\.(\w+)")
_TOGETHER: Final = re.compile(
    r"(model\.layers\.\d+\.mlp\.experts)\.(gate_up|gate|up|down)_proj(?:\.weight)?"
)
_SHARED_GATE: Final = ".mlp.shared_expert_gate.weight"


def name_experts(
    tensors: Mapping[str, StoredTensor | CodedMatrix], config: DecoderConfig
) -> dict[str, StoredTensor | CodedMatrix]:
    """Return tensors by canonical names, those of several experts as one for each.

    Raises:
        BadInput: a tensor of several experts is not of the size that the configuration says, or
            holds a matrix that is there under another name too.
    """
    experts = config.experts
    if experts is None:
        return dict(tensors)
    named: dict[str, StoredTensor | CodedMatrix] = {}
    for name, tensor in tensors.items():
        for own, part in _parts(_plain_name(name), tensor, config.hidden_size, experts):
            if own in named:
                raise BadInput(
                    f"tensor {name!r} holds {own}, which another tensor is",
                    where=Where(path=str(tensor.path)),
                    hint="the experts' weights are either in one tensor, or each in its own",
                )
            named[own] = part
    return named


def _plain_name(name: str) -> str:
    found = _OF_MIXTRAL.fullmatch(name)
    if not found:
        return name
    one = _ONE.fullmatch(found[2])
    inside = f"experts.{one[1]}.{_MIXTRAL[one[2]]}.{one[3]}" if one else found[2]
    return f"{found[1]}.mlp.{inside}"


def _parts(
    name: str, tensor: StoredTensor | CodedMatrix, hidden: int, experts: Experts
) -> Iterator[tuple[str, StoredTensor | CodedMatrix]]:
    together = _TOGETHER.fullmatch(name)
    if isinstance(tensor, CodedMatrix):
        yield name, tensor
    elif name.endswith(_SHARED_GATE) and tensor.shape == (hidden,):  # llama.cpp's
        yield name, replace(tensor, shape=(1, hidden))
    elif together:
        yield from _apart(together[1], together[2], tensor, hidden, experts)
    else:
        yield name, tensor


def _apart(
    module: str, which: str, tensor: StoredTensor, hidden: int, experts: Experts
) -> Iterator[tuple[str, StoredTensor]]:
    """Yield each expert's slice of a tensor [experts, out, in], where it lies. Files' headers were
    checked: rows are whole blocks, and as many bytes as they say."""
    inner = experts.hidden
    shape = {"gate_up": (2 * inner, hidden), "down": (hidden, inner)}.get(which, (inner, hidden))
    if tensor.shape != (experts.count, *shape):
        raise BadInput(
            f"tensor {tensor.name!r} is {list(tensor.shape)}, not {[experts.count, *shape]}",
            where=Where(path=str(tensor.path)),
            hint="the file's tensors don't have the sizes that its configuration says",
        )
    rows = ("gate", "up") if which == "gate_up" else (which,)
    size = tensor.size // (experts.count * len(rows))
    for index in range(experts.count * len(rows)):
        expert, half = divmod(index, len(rows))
        name = f"{module}.{expert}.{rows[half]}_proj.weight"
        offset = tensor.offset + index * size
        part = (shape[0] // len(rows), shape[1])
        yield name, replace(tensor, name=name, shape=part, offset=offset, size=size)
