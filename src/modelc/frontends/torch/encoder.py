"""Encoders of Hugging Face folders: which class loads them, and what they are fed.

Runs in the worker. Weights come from safetensors only, and no code from the folder is run.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelc.errors import BadInput, Where
from modelc.frontends.torch.example import Example


def load(folder: Path, dims: Mapping[str, int]) -> Example:
    """Return the model in a folder, the encoder if it has a decoder too, with example inputs.

    Raises:
        BadInput: transformers doesn't know or can't load it, or sizes are missing.
    """
    import transformers

    where = Where(path=str(folder))
    try:
        config = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        name = (config.architectures or [""])[0]
        kind = getattr(transformers, name, transformers.AutoModel)
        # "eager" writes attention out, so that its scores have names.
        model = kind.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            use_safetensors=True,
            attn_implementation="eager",
        )
    except Exception as error:  # transformers raises many types
        why = str(error).strip().splitlines()
        raise BadInput(
            f"transformers can't load it: {why[0] if why else type(error).__name__}",
            where=where,
            hint="is the folder whole, and is its architecture one of transformers itself?",
        ) from error
    if config.is_encoder_decoder:
        model = model.get_encoder()
    elif name.endswith("ForConditionalGeneration"):
        raise BadInput(
            f"{name} generates text, and has no encoder of its own",
            where=where,
            hint="write a function that gives the part you want: FILE.py:FUNCTION",
        )
    return Example(model, (), example_inputs(model, config, dims, where))


def example_inputs(
    model: Any, config: Any, dims: Mapping[str, int], where: Where
) -> Mapping[str, Any]:
    """Return inputs by argument: ids as if of a whole text, images and sounds of zeros."""
    import torch

    main = model.main_input_name
    accepted = set(inspect.signature(model.forward).parameters)
    if main == "input_ids":
        batch, length = _sizes(dims, ("batch", "sequence"), where)
        longest = getattr(config, "max_position_embeddings", None)
        if longest is not None and length > longest:
            raise BadInput(
                f"sequence={length} is longer than the model's {longest}",
                where=where,
                hint=f"give --dim sequence={longest} or less",
            )
        inputs = {"input_ids": torch.ones(batch, length, dtype=torch.int64)}
        if "attention_mask" in accepted:
            inputs["attention_mask"] = torch.ones(batch, length, dtype=torch.int64)
        if "token_type_ids" in accepted and getattr(config, "type_vocab_size", 0) > 1:
            inputs["token_type_ids"] = torch.zeros(batch, length, dtype=torch.int64)
        return inputs
    if main == "pixel_values":
        size = getattr(config, "image_size", None)
        if size is None:
            batch, height, width = _sizes(dims, ("batch", "height", "width"), where)
        else:
            (batch,) = _sizes(dims, ("batch",), where)
            height, width = size if isinstance(size, Sequence) else (size, size)
        channels = getattr(config, "num_channels", 3)
        return {"pixel_values": torch.zeros(batch, channels, height, width)}
    if main == "input_features" and hasattr(config, "max_source_positions"):
        (batch,) = _sizes(dims, ("batch",), where)
        # Whisper's convolutions halve the frames.
        frames = 2 * config.max_source_positions
        return {"input_features": torch.zeros(batch, config.num_mel_bins, frames)}
    if main == "input_values":
        batch, samples = _sizes(dims, ("batch", "samples"), where)
        return {"input_values": torch.zeros(batch, samples)}
    raise BadInput(
        f"what it takes is not known: {main}",
        where=where,
        hint="write a function that gives the model and its example inputs: FILE.py:FUNCTION",
    )


def _sizes(dims: Mapping[str, int], names: Sequence[str], where: Where) -> list[int]:
    """Return the sizes of these names.

    Raises:
        BadInput: one is missing or no size, or others are given.
    """
    if strange := sorted(set(dims) - set(names)):
        raise BadInput(
            f"it has no open size {strange[0]!r}; open are: {', '.join(names)}",
            where=where,
            hint=f"leave --dim {strange[0]} out",
        )
    if missing := [name for name in names if name not in dims]:
        raise BadInput(
            f"sizes are open: {', '.join(missing)}",
            where=where,
            hint="fix them: "
            + " ".join(f"--dim {name}=1" for name in missing)
            + ", or what size you need",
        )
    if wrong := [name for name in names if dims[name] < 1]:
        raise BadInput(f"--dim {wrong[0]}={dims[wrong[0]]} is no size", where=where,
                       hint="give 1 or more")  # fmt: skip
    return [dims[name] for name in names]
