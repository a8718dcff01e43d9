"""Genie's two configuration files, written from the model.

Genie rejects unknown keys, but checks neither the vocabulary nor the head size against the
binaries, and most rope parameters only when a dialog is created.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from modelc.decoder.config import DecoderConfig, Rope
from modelc.errors import BadInput
from modelc.targets.runtime import Sampling
from modelc.targets.snapdragon.chipsets import Chipset
from modelc.targets.snapdragon.rotary import Rotary, rotary_of

EXTENSION_FILE: Final = "htp_backend_ext_config.json"
MAX_SEED: Final = 2**31 - 1
NO_BOS: Final = -1
# The big cores of a phone's chipset, where Genie's own work should run.
CPU_MASK: Final = "0xe0"
# Any number above 1 does: longrope's attention factor is sqrt(1 + log(factor) / log(original)).
_LONGROPE_ORIGINAL: Final = 4096


@dataclass(frozen=True)
class GenieModel:
    """What Genie must know of a compiled model.

    Attributes:
        binaries: context binaries in the order of the parts, relative to where Genie is started.
        tokenizer: path of tokenizer.json, relative likewise.
        context_length: the longest, if the binaries have graphs for several.
        eos_ids: tokens that end an answer. If one did not end by itself, Genie reads the first of
            them before the dialog's next prompt, so it must be a real token.
        bos_id: token that Genie puts before every prompt of a dialog, even if the prompt's text
            begins with it; None for no token (see `genie_prompt.genie_bos`).
        rope, rotary: the rotary embedding; `rotary` has all scaling in it.
    """

    binaries: tuple[str, ...]
    tokenizer: str
    context_length: int
    vocab_size: int
    head_dim: int
    rope: Rope
    rotary: Rotary
    eos_ids: tuple[int, ...]
    bos_id: int | None = None
    pad_id: int | None = None


def genie_model(
    config: DecoderConfig,
    *,
    context_length: int,
    binaries: Sequence[str],
    eos_ids: Sequence[int],
    bos_id: int | None = None,
    pad_id: int | None = None,
    tokenizer: str = "tokenizer.json",
) -> GenieModel:
    """Return the Genie model of a decoder."""
    return GenieModel(
        binaries=tuple(binaries),
        tokenizer=tokenizer,
        context_length=context_length,
        vocab_size=config.vocab_size,
        head_dim=config.head_dim,
        rope=config.rope,
        rotary=rotary_of(config, context_length),
        eos_ids=tuple(eos_ids),
        bos_id=bos_id,
        pad_id=pad_id,
    )


def genie_config(
    model: GenieModel,
    sampling: Sampling | None = None,
    *,
    max_new_tokens: int | None = None,
    stop_sequences: Sequence[str] = (),
    poll: bool = True,
) -> dict[str, Any]:
    """Return the document of genie_config.json.

    Args:
        poll: Genie's threads wait busily. Right on a device; where they share cores with the
            simulator, it takes two to three times as long.

    Raises:
        BadInput: something that Genie has no word for.
    """
    if not model.eos_ids or min(model.eos_ids) < 0:
        raise BadInput("Genie needs at least one end-of-sequence token")
    context: dict[str, Any] = {
        "version": 1,
        "size": model.context_length,
        "n-vocab": model.vocab_size,
        "bos-token": NO_BOS if model.bos_id is None else model.bos_id,
        "eos-token": list(model.eos_ids),
    }
    if model.pad_id is not None:
        context["pad-token"] = model.pad_id
    dialog: dict[str, Any] = {
        "version": 1,
        "type": "basic",
        "context": context,
        "sampler": sampler_config(sampling or Sampling(), model),
        "tokenizer": {"version": 1, "path": model.tokenizer},
        "engine": _engine(model, poll),
    }
    if max_new_tokens is not None:
        dialog["max-num-tokens"] = max_new_tokens
    if stop_sequences:
        dialog["stop-sequence"] = list(stop_sequences)
    return {"dialog": dialog}


def extension_config(chipset: Chipset) -> dict[str, Any]:
    """Return the document of htp_backend_ext_config.json."""
    core = {"core_id": 0, "perf_profile": "burst", "rpc_control_latency": 100}
    return {
        # With "dsp_arch" beside it, soc_model would be ignored in favour of the arch's default.
        "devices": [{"soc_model": chipset.soc_model, "cores": [core]}],
        "memory": {"mem_type": "shared_buffer"},
        "context": {"weight_sharing_enabled": chipset.weight_sharing},
    }


def sampler_config(sampling: Sampling, model: GenieModel) -> dict[str, Any]:
    """Return Genie's words for a sampling.

    Raises:
        BadInput: the seed is out of Genie's range.
    """
    if not 0 <= sampling.seed <= MAX_SEED:
        raise BadInput(f"Genie's seed is from 0 to {MAX_SEED}, not {sampling.seed}")
    greedy = sampling.temperature == 0.0
    config: dict[str, Any] = {
        "version": 1,
        "seed": sampling.seed,
        "temp": 1.0 if greedy else sampling.temperature,
        # "greedy" alone does not make Genie greedy; top-k 1 does.
        "top-k": 1 if greedy else sampling.top_k or model.vocab_size,
        "top-p": 1.0 if greedy else sampling.top_p,
        "greedy": greedy,
    }
    if sampling.repetition_penalty != 1.0:
        config["token-penalty"] = {
            "version": 1,
            "repetition-penalty": sampling.repetition_penalty,
            "penalize-last-n": model.context_length,
        }
    return config


def _engine(model: GenieModel, poll: bool) -> dict[str, Any]:
    htp = {
        "version": 1,
        "use-mmap": True,
        "spill-fill-bufsize": 0,
        "mmap-budget": 0,
        "poll": poll,
        "cpu-mask": CPU_MASK,
        "kv-dim": model.head_dim,
        "allow-async-init": False,
    }
    return {
        "version": 1,
        "n-threads": 3,
        "backend": {"version": 1, "type": "QnnHtp", "extensions": EXTENSION_FILE, "QnnHtp": htp},
        "model": {
            "version": 1,
            "type": "binary",
            "binary": {"version": 1, "ctx-bins": list(model.binaries)},
            "positional-encoding": positional_encoding(model),
        },
    }


def positional_encoding(model: GenieModel) -> dict[str, Any]:
    """Return Genie's words for the rotary embedding.

    Llama 3's scaling has words of its own, which compute it to the bit. Any other (linear, yarn,
    longrope, a GGUF's divisors) is written as longrope with one divisor per frequency: Genie's
    other kinds compute the same from parameters, but not all variants, and longrope's formula gives
    any attention factor. Genie's cos and sin are then the simulator's to the last bit.
    """
    rope, rotary, pairs = model.rope, model.rotary, len(model.rotary.frequencies)
    encoding: dict[str, Any] = {"type": "rope", "rope-dim": pairs, "rope-theta": rope.theta}
    plain = [rope.theta ** (-pair / pairs) for pair in range(pairs)]
    divisors = [base / scaled for base, scaled in zip(plain, rotary.frequencies, strict=True)]
    attention = rotary.attention_factor
    if attention == 1.0 and all(math.isclose(d, 1.0, rel_tol=1e-12) for d in divisors):
        return encoding
    if rope.kind == "llama3" and attention == 1.0 and not rope.frequency_divisors:
        encoding["rope-scaling"] = {
            "rope-type": "llama3",
            "factor": rope.factor,
            "low-freq-factor": rope.low_freq_factor,
            "high-freq-factor": rope.high_freq_factor,
            "original-max-position-embeddings": rope.original_context,
        }
        return encoding
    encoding["rope-scaling"] = {
        "rope-type": "longrope",
        "factor": math.exp((attention**2 - 1) * math.log(_LONGROPE_ORIGINAL)),
        "original-max-position-embeddings": _LONGROPE_ORIGINAL,
        "short-factor": divisors,
        "long-factor": divisors,
    }
    return encoding
