"""LoRA adapters as PEFT saves them: adapter_config.json beside adapter_model.safetensors.

Source: https://huggingface.co/docs/peft (LoRA's configuration and checkpoint format).
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Final

from modelc.decoder.adapter import Adapter, LowRank
from modelc.errors import BadInput, Where
from modelc.frontends.fields import Fields, parse_json, read_text
from modelc.frontends.huggingface.safetensors import read_header
from modelc.frontends.stored import StoredTensor
from modelc.ir.stored import BLOCKS, StoredMatrix

CONFIG: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"
LARGEST_RANK: Final = 1 << 12
_NAME: Final = re.compile(
    r"(?:base_model\.model\.)?(model\.layers\.\d+\.(?:self_attn|mlp)\.\w+)\.lora_([AB])\.weight"
)
# Variants whose product is not the plain one.
_PLAIN: Final = {"use_dora": False, "fan_in_fan_out": False, "lora_bias": False}


def read_adapter(folder: Path) -> Adapter:
    """Return an adapter called as its folder; the weights stay where they are.

    Raises:
        BadInput: a file is missing or damaged, or it is no plain LoRA of linear layers.
    """
    text = read_text(folder / CONFIG, "is this a folder that PEFT saved an adapter to?")
    config = parse_json(text, folder / CONFIG)
    scale = _scale(config)
    halves: dict[str, dict[str, StoredTensor]] = {}
    for tensor in read_header(folder / WEIGHTS):
        found = _NAME.fullmatch(tensor.name)
        if not found:
            raise _bad(folder, f"{tensor.name} is no part of a LoRA of a decoder's linear layers")
        halves.setdefault(found[1], {})[found[2]] = tensor
    layers = {module: _layer(folder, module, halves[module], scale) for module in sorted(halves)}
    if any(layer.rank != config.integer("r") for layer in layers.values()):
        raise _bad(folder, f"its matrices are not all of rank {config.integer('r')}")
    if not layers:
        raise _bad(folder, "it has no matrices")
    return Adapter(folder.name, layers)


def _scale(config: Fields) -> float:
    """alpha / rank, or alpha / sqrt(rank) if it is rank-stabilised."""
    if config.text("peft_type") != "LORA" or config.text("bias", "none") != "none":
        raise config.bad("peft_type", '"LORA" without biases')
    for key, wanted in _PLAIN.items():
        if config.boolean(key, wanted) != wanted:
            raise config.bad(key, str(wanted).lower())
    for key in ("rank_pattern", "alpha_pattern", "modules_to_save"):
        if config.values.get(key):
            raise config.bad(key, "empty")
    rank = config.integer("r", low=1, high=LARGEST_RANK)
    stabilised = config.boolean("use_rslora", False)
    return config.number("lora_alpha") / (math.sqrt(rank) if stabilised else rank)


def _layer(folder: Path, module: str, halves: dict[str, StoredTensor], scale: float) -> LowRank:
    if halves.keys() != {"A", "B"}:
        raise _bad(folder, f"{module} has only one of lora_A and lora_B")
    down, up = (_matrix(folder, halves[half]) for half in "AB")
    if down.shape[0] != up.shape[1]:
        raise _bad(folder, f"{module}: {list(up.shape)} @ {list(down.shape)} is no product")
    return LowRank(down, up, scale)


def _matrix(folder: Path, tensor: StoredTensor) -> StoredMatrix:
    if tensor.format not in BLOCKS or len(tensor.shape) != 2 or 0 in tensor.shape:
        raise _bad(folder, f"{tensor.name} is {tensor.format} {list(tensor.shape)}")
    return StoredMatrix(tensor.path, tensor.offset, tensor.format, tensor.shape)


def _bad(folder: Path, what: str) -> BadInput:
    return BadInput(
        f"not an adapter that graphs can take: {what}",
        where=Where(path=str(folder)),
        hint="plain LoRA of attention's and feed-forward's projections, in safetensors",
    )
