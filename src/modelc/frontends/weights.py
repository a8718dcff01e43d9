"""Gives stored tensors their canonical names and says how their rows become the weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from modelc.decoder.config import DecoderConfig
from modelc.errors import BadInput, Where
from modelc.frontends.stored import StoredTensor
from modelc.ir.coded import CodedMatrix
from modelc.ir.stored import BLOCKS, StoredMatrix

# Modules whose rows are those of several canonical ones, in this order (phi3).
FUSED: Final[Mapping[str, tuple[str, ...]]] = {
    "self_attn.qkv_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "mlp.gate_up_proj": ("mlp.gate_proj", "mlp.up_proj"),
}


def place_weights(
    tensors: Mapping[str, StoredTensor | CodedMatrix],
    config: DecoderConfig,
    *,
    permuted: bool = False,
    norm_add: float = 0.0,
) -> dict[str, StoredMatrix]:
    """Return the canonical weights.

    Args:
        tensors: by Hugging Face's name ("model.layers.0.self_attn.qkv_proj.weight"); quantised
            ones are put together already.
        permuted: the rows of q and k (and their biases) are interleaved as llama.cpp does.
        norm_add: added to every norm's weight.

    Raises:
        BadInput: a format that can't be read, a fused weight of the wrong height, or one weight
            in two tensors.
    """
    weights: dict[str, StoredMatrix] = {}
    for name, tensor in tensors.items():
        stored = tensor if isinstance(tensor, CodedMatrix) else _matrix(tensor)
        if name.endswith("norm.weight"):
            stored = replace(stored, add=norm_add)
        if permuted and ".q_proj." in name:
            stored = replace(stored, unpermute_heads=config.heads)
        if permuted and ".k_proj." in name:
            stored = replace(stored, unpermute_heads=config.kv_heads)
        parts = _parts(name, stored, config)
        if weights.keys() & parts.keys():
            raise BadInput(
                f"tensor {name!r} holds rows that another tensor has",
                where=Where(path=str(tensor.path)),
                hint="a weight is either fused with others, or stands alone",
            )
        weights |= parts
    return weights


def check_biases(
    weights: Mapping[str, StoredMatrix], modules: Collection[str], config: DecoderConfig, path: Path
) -> None:
    """Check that in every layer these modules have a bias, and no others.

    Raises:
        BadInput: names the first bias that is missing or unexpected.
    """
    layers = range(config.layers)
    expected = {f"model.layers.{layer}.{module}.bias" for layer in layers for module in modules}
    found = {name for name in weights if name.endswith(".bias")}
    for what, names in (("missing", expected - found), ("unexpected", found - expected)):
        if names:
            raise BadInput(
                f"the weight {min(names)!r} is {what}",
                where=Where(path=str(path)),
                hint="the tensors don't fit the configuration",
            )


def _matrix(tensor: StoredTensor) -> StoredMatrix:
    if tensor.format not in BLOCKS:
        raise BadInput(
            f"tensor {tensor.name!r} has the type {tensor.format}",
            where=Where(path=str(tensor.path)),
            hint=f"types that can be read: {', '.join(BLOCKS)}",
        )
    if not 1 <= len(tensor.shape) <= 2 or (len(tensor.shape) == 1 and BLOCKS[tensor.format][0] > 1):
        raise BadInput(
            f"tensor {tensor.name!r} is {tensor.format} {list(tensor.shape)}",
            where=Where(path=str(tensor.path)),
            hint="only matrices, and vectors of floats, are weights of a decoder",
        )
    return StoredMatrix(tensor.path, tensor.offset, tensor.format, tensor.shape)


def _parts(name: str, stored: StoredMatrix, config: DecoderConfig) -> dict[str, StoredMatrix]:
    """Slice a fused weight apart by rows; any other stays whole."""
    fused = next((module for module in FUSED if f".{module}." in name), None)
    if fused is None:
        return {name: stored}
    modules = FUSED[fused]
    heights = [_height(module, config) for module in modules]
    if sum(heights) != stored.shape[0]:
        raise BadInput(
            f"{name!r} has {stored.shape[0]} rows, not {' + '.join(map(str, heights))}",
            where=Where(path=str(stored.path)),
            hint="the file's tensors don't have the sizes that its configuration says",
        )
    parts, first = {}, 0
    for module, height in zip(modules, heights, strict=True):
        parts[name.replace(fused, module)] = replace(stored, rows=(first, first + height))
        first += height
    return parts


def _height(module: str, config: DecoderConfig) -> int:
    if module.startswith("mlp."):
        return config.intermediate_size
    heads = config.heads if module.endswith("q_proj") else config.kv_heads
    return heads * config.head_dim
