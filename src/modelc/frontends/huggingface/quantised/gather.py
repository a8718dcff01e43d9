"""Quantised modules among a folder's tensors, each as one matrix of codes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from modelc.errors import BadInput, Where, nearest
from modelc.frontends.fields import Fields
from modelc.frontends.huggingface.quantised import (
    awq,
    bitsandbytes,
    compressed_tensors,
    fp8,
    gptq,
)
from modelc.frontends.huggingface.quantised.module import Module
from modelc.frontends.stored import StoredTensor
from modelc.ir.coded import CodedMatrix

_OF_CACHES: Final = (".k_scale", ".v_scale", ".q_scale", ".kv_scale", ".prob_scale")
_DEPTH: Final = 3  # most names below a module's: weight.quant_state.bitsandbytes__nf4


@dataclass(frozen=True)
class _Method:
    """One `quant_method`.

    Attributes:
        marks: names below a module, one of which each quantised module has.
        check: refuses settings that aren't read.
        read: takes a module's weight from its tensors.
    """

    marks: tuple[str, ...]
    check: Callable[[Fields], None]
    read: Callable[[Fields, Module], CodedMatrix]


_METHODS: Final[Mapping[str, _Method]] = {
    "gptq": _Method(gptq.MARKS, gptq.check, gptq.read),
    "awq": _Method(awq.MARKS, awq.check, awq.read),
    "compressed-tensors": _Method(
        compressed_tensors.MARKS, compressed_tensors.check, compressed_tensors.read
    ),
    "fp8": _Method(fp8.MARKS, fp8.check, fp8.read),
    "bitsandbytes": _Method(bitsandbytes.MARKS, bitsandbytes.check, bitsandbytes.read),
}

Gathered = dict[str, StoredTensor | CodedMatrix]


def gather(tensors: Mapping[str, StoredTensor], config: Fields | None) -> Gathered:
    """Return a folder's weights by name: floats as they lie, quantised ones put together.

    Scales of activations and of the KV cache are left out: ranges are gathered here.

    Args:
        config: the `quantization_config`; None if there is none.

    Raises:
        BadInput: a method or format that isn't known, or tensors that don't fit each other.
    """
    if config is None:
        return dict(tensors)
    name = config.text("quant_method")
    if name not in _METHODS:
        raise BadInput(
            f"the weights are quantised by {name!r}",
            where=Where(path=str(config.path)),
            hint=f"{nearest(name, _METHODS)}; or start from the float weights or a GGUF file",
        )
    method = _METHODS[name]
    method.check(config)
    rest = {key: one for key, one in tensors.items() if not key.endswith(_OF_CACHES)}
    gathered: Gathered = {}
    for module in _modules(rest, method.marks):
        gathered[f"{module.path}.weight"] = method.read(config, module)
        rest |= {f"{module.path}.{name}": tensor for name, tensor in module.tensors.items()}
    return rest | gathered


def _modules(rest: dict[str, StoredTensor], marks: tuple[str, ...]) -> list[Module]:
    """Take the tensors of modules that have a mark out of the rest."""
    ends = tuple(f".{mark}" for mark in marks)
    found: dict[str, Module] = {}
    for name in rest:
        for end in ends:
            if name.endswith(end):
                path = name.removesuffix(end)
                found.setdefault(path, Module(path, {}))
    for name in list(rest):
        for depth in range(1, _DEPTH + 1):
            path = name.rsplit(".", depth)[0]
            if path in found:
                found[path].tensors[name[len(path) + 1 :]] = rest.pop(name)
                break
    return list(found.values())
