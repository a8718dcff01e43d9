"""Turns a GGUF file into a `DecoderSource`; the weights stay where they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from modelc.decoder.check import check_source
from modelc.decoder.config import DecoderModel, DecoderSource
from modelc.errors import BadInput, Where
from modelc.frontends.experts import name_experts
from modelc.frontends.fields import Fields
from modelc.frontends.gguf.config import ARCHITECTURES, architecture_of, read_config
from modelc.frontends.gguf.container import Container, read_container
from modelc.frontends.gguf.rope import TENSORS as ROPE_TENSORS
from modelc.frontends.gguf.tokenizer import read_tokenizer
from modelc.frontends.stored import Description, StoredTensor
from modelc.frontends.weights import check_biases, place_weights
from modelc.ir.coded import CodedMatrix

TOP: Final[Mapping[str, str]] = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_IN_LAYER = re.compile(r"blk\.(0|[1-9][0-9]{0,3})\.(\w+)\.(weight|bias)")
# One tensor for each expert, as Mixtral's first files have it.
_OF_EXPERT = re.compile(
    r"blk\.(0|[1-9][0-9]{0,3})\.ffn_(gate|up|down)\.(0|[1-9][0-9]{0,3})\.weight"
)
_AT_TOP = re.compile(r"(\w+)\.(weight|bias)")
_SHOWN = 16


def read_source(path: Path) -> DecoderSource:
    """Return what a GGUF file holds.

    Raises:
        BadInput: the file is damaged, or holds something that modelc doesn't know.
    """
    container = read_container(path)
    model = _model(container)
    tokenizer = read_tokenizer(Fields(container.metadata, path), model.config.vocab_size)
    return DecoderSource(model.config, model.weights, tokenizer)


def read_model(path: Path) -> DecoderModel:
    """Return the same but for the tokenizer, which takes seconds to rebuild."""
    return _model(read_container(path))


def _model(container: Container) -> DecoderModel:
    metadata = Fields(container.metadata, container.path)
    config = read_config(metadata, container.tensors)
    architecture = ARCHITECTURES[architecture_of(metadata)]
    tensors = name_experts(_named(container, architecture.layer), config)
    weights = place_weights(tensors, config, permuted=architecture.permuted)
    first_layer = {name.split(".", 3)[3] for name in weights if name.startswith("model.layers.0.")}
    biases = {name.removesuffix(".bias") for name in first_layer if name.endswith(".bias")}
    check_biases(weights, biases | set(architecture.biases), config, container.path)
    model = DecoderModel(config, weights)
    check_source(model)
    return model


def source_files(path: Path) -> tuple[Path, ...]:
    """Return the file itself."""
    return (path,)


def describe(path: Path) -> Description:
    """Return a file's metadata (long lists as their length) and tensors as they are."""
    container = read_container(path)
    metadata = {
        key: f"{len(value)} values" if isinstance(value, list) and len(value) > _SHOWN else value
        for key, value in sorted(container.metadata.items())
    }
    tensors = sorted(container.tensors.values(), key=lambda tensor: tensor.offset)
    return Description("gguf", metadata, tuple(tensors))


def _named(container: Container, layer: Mapping[str, str]) -> dict[str, StoredTensor | CodedMatrix]:
    """Return the weights by Hugging Face's names; BadInput for a tensor that has none."""
    named: dict[str, StoredTensor | CodedMatrix] = {}
    for name, tensor in container.tensors.items():
        if name in ROPE_TENSORS:
            continue
        if (match := _IN_LAYER.fullmatch(name)) and match[2] in layer:
            named[f"model.layers.{match[1]}.{layer[match[2]]}.{match[3]}"] = tensor
        elif "ffn_gate_exps" in layer and (match := _OF_EXPERT.fullmatch(name)):
            module = f"model.layers.{match[1]}.mlp.experts.{match[3]}.{match[2]}_proj"
            named[f"{module}.weight"] = tensor
        elif (match := _AT_TOP.fullmatch(name)) and match[1] in TOP:
            named[f"{TOP[match[1]]}.{match[2]}"] = tensor
        else:
            raise BadInput(
                f"tensor {name!r} has no place in this architecture",
                where=Where(path=str(container.path)),
                hint="the file is a variant (adapters, ...) that modelc doesn't compute",
            )
    return named
