"""The mixture of experts as a config.json gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from modelc.decoder.config import Experts
from modelc.frontends.fields import Fields

MAX_EXPERTS: Final = 4096
MAX_SIZE: Final = 1 << 24

# What transformers assumes where a key is left out. The number of experts has two names, either of
# which a file may use.
_COUNT: Final = ("num_local_experts", "num_experts")
_DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "mixtral": {"count": 8, "used": 2},
    "qwen2_moe": {"count": 60, "used": 4, "hidden": 1408, "shared": 5632},
    "qwen3_moe": {"count": 128, "used": 8, "hidden": 768},
}


def read_experts(config: Fields) -> Experts | None:
    """Return the experts of a config.json's architecture; None if it is of none that has any.

    Raises:
        BadInput: a setting makes no sense.
    """
    model_type = config.text("model_type")
    if model_type not in _DEFAULTS:
        return None
    defaults = _DEFAULTS[model_type]
    count = _count(config, defaults["count"])
    used = config.integer("num_experts_per_tok", defaults["used"], low=1, high=count)
    layers = config.integer("num_hidden_layers", low=1, high=MAX_EXPERTS)
    if model_type == "mixtral":
        hidden = config.integer("intermediate_size", low=1, high=MAX_SIZE)
        return Experts(count, used, hidden, tuple(range(layers)))
    step = config.integer("decoder_sparse_step", 1, low=1)
    plain = config.integers("mlp_only_layers", [])
    shared = "shared_expert_intermediate_size"
    return Experts(
        count=count,
        used=used,
        hidden=config.integer("moe_intermediate_size", defaults["hidden"], low=1, high=MAX_SIZE),
        layers=tuple(n for n in range(layers) if n not in plain and (n + 1) % step == 0),
        normalise=config.boolean("norm_topk_prob", False),
        shared_hidden=config.integer(shared, defaults["shared"], low=1, high=MAX_SIZE)
        if "shared" in defaults
        else 0,
    )


def _count(config: Fields, default: int) -> int:
    given = [key for key in _COUNT if config.has(key)]
    counts = {config.integer(key, low=1, high=MAX_EXPERTS) for key in given}
    if len(counts) > 1:
        raise config.bad(_COUNT[0], f"the same as {_COUNT[1]}")
    return counts.pop() if counts else default
