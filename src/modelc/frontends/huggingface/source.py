"""Turns a Hugging Face folder into a `DecoderSource`; the weights stay where they are."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from modelc.decoder.check import check_source
from modelc.decoder.config import DecoderConfig, DecoderModel, DecoderSource
from modelc.errors import BadInput, Where
from modelc.frontends.experts import name_experts
from modelc.frontends.fields import Fields, parse_json, read_text
from modelc.frontends.huggingface.config import read_biases, read_config
from modelc.frontends.huggingface.quantised.gather import Gathered, gather
from modelc.frontends.huggingface.quantised.settings import BESIDE, quantisation
from modelc.frontends.huggingface.safetensors import read_header
from modelc.frontends.huggingface.tokenizer import read_tokenizer
from modelc.frontends.stored import Description, StoredTensor, listed
from modelc.frontends.weights import check_biases, place_weights
from modelc.ir.coded import CodedMatrix

CONFIG, SINGLE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
SETTINGS = (
    CONFIG, "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "chat_template.jinja", *BESIDE,
)  # fmt: skip


def read_source(folder: Path) -> DecoderSource:
    """Return what a folder holds.

    Raises:
        BadInput: a file is missing or damaged, or holds something that modelc doesn't know.
    """
    model = read_model(folder)
    return DecoderSource(model.config, model.weights, read_tokenizer(folder, _config(folder)))


def read_model(folder: Path) -> DecoderModel:
    """Return the same but for the tokenizer."""
    given = _config(folder)
    config = read_config(given)
    # Kept by some old checkpoints; recomputed by everybody.
    tensors = {
        name: tensor
        for name, tensor in _gathered(folder, given).items()
        if not name.endswith(".rotary_emb.inv_freq")
    }
    if config.tied_head:
        tensors.pop("lm_head.weight", None)
    weights = place_weights(name_experts(tensors, config), config, norm_add=_norm_add(config))
    check_biases(weights, read_biases(given), config, folder)
    model = DecoderModel(config, weights)
    check_source(model)
    return model


def stored_codes(folder: Path) -> dict[str, CodedMatrix]:
    """Return the weights of a folder that came quantised, as they are named there."""
    given = _config(folder)
    if quantisation(folder, given) is None:
        return {}
    gathered = _gathered(folder, given).items()
    return {name: weight for name, weight in gathered if isinstance(weight, CodedMatrix)}


def source_files(folder: Path) -> tuple[Path, ...]:
    """Return every file of a folder that a source is made of, sorted."""
    settings = {folder / name for name in (*SETTINGS, INDEX) if (folder / name).exists()}
    return tuple(sorted(settings | set(_shards(folder))))


def describe(folder: Path) -> Description:
    """Return a folder's config.json and its tensors; those of a quantised weight as one."""
    given = _config(folder)
    tensors = [
        listed(name, tensor) if isinstance(tensor, CodedMatrix) else tensor
        for name, tensor in _gathered(folder, given).items()
    ]
    tensors.sort(key=lambda tensor: (tensor.path.name, tensor.offset))
    return Description("huggingface", dict(given.values), tuple(tensors))


def read_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Return the tensors of all shards by name; BadInput if a name is in two of them."""
    tensors: dict[str, StoredTensor] = {}
    for shard in _shards(folder):
        for tensor in read_header(shard):
            if tensor.name in tensors:
                raise BadInput(
                    f"tensor {tensor.name} is also in {tensors[tensor.name].path.name}",
                    where=Where(path=str(shard)),
                    hint="the folder mixes the files of two models",
                )
            tensors[tensor.name] = tensor
    return tensors


def _gathered(folder: Path, given: Fields) -> Gathered:
    return gather(read_tensors(folder), quantisation(folder, given))


def _config(folder: Path) -> Fields:
    path = folder / CONFIG
    return parse_json(read_text(path, "a Hugging Face folder has a config.json"), path)


def _norm_add(config: DecoderConfig) -> float:
    return 1.0 if config.architecture == "gemma2" else 0.0


def _shards(folder: Path) -> tuple[Path, ...]:
    """Return the safetensors files, sorted; those of the index must lie in the folder itself."""
    index = folder / INDEX
    if not index.exists():
        single = _single(folder)
        if single is None:
            raise BadInput(
                f"there is no {SINGLE}",
                where=Where(path=str(folder)),
                hint="modelc reads safetensors; save the model with safe_serialization",
            )
        return (single,)
    names = parse_json(read_text(index, ""), index).values.get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise BadInput("its weight_map makes no sense", where=Where(path=str(index)))
    for name in names.values():
        plain = PurePosixPath(name).name == name and "\\" not in name and len(name) < 256
        if not plain or not (folder / name).is_file():
            raise BadInput(
                f"there is no shard {name!r} in the folder",
                where=Where(path=str(index)),
                hint="the folder is only partly downloaded, or its index names other places",
            )
    return tuple(folder / name for name in sorted(set(names.values())))


def _single(folder: Path) -> Path | None:
    """Return the file of all weights, which AutoGPTQ used to call after bits and groups."""
    if (folder / SINGLE).exists():
        return folder / SINGLE
    found = sorted(folder.glob("gptq_model-*bit-*g.safetensors"))
    return found[0] if len(found) == 1 else None
