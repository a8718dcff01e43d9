"""The rotary embedding as a config.json gives it, in both generations' spelling.

Transformers 4 wrote `rope_theta` and `rope_scaling`; transformers 5 writes both into
`rope_parameters`. An unknown kind, or a key that a kind doesn't have, is refused: ignoring it
would silently compute something else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from modelc.decoder.config import Rope, RopeKind
from modelc.errors import BadInput, Where
from modelc.frontends.fields import Fields

_COMMON = ("rope_type", "type", "rope_theta", "partial_rotary_factor", "finetuned")
_ORIGINAL = "original_max_position_embeddings"
KEYS: Final[Mapping[RopeKind, tuple[str, ...]]] = {
    "default": (_ORIGINAL,),
    "linear": ("factor", _ORIGINAL),
    "llama3": ("factor", _ORIGINAL, "low_freq_factor", "high_freq_factor"),
    "yarn": (
        "factor", _ORIGINAL, "attention_factor", "beta_fast", "beta_slow", "mscale",
        "mscale_all_dim", "truncate",
    ),
    "longrope": ("factor", _ORIGINAL, "attention_factor", "short_factor", "long_factor"),
}  # fmt: skip


def read_rope(config: Fields, head_dim: int) -> Rope:
    """Return the rotary embedding of a config.json.

    Raises:
        BadInput: an unknown kind or key, or a parameter that is missing or makes no sense.
    """
    given = Fields({}, config.path)
    for key in ("rope_scaling", "rope_parameters"):
        value = config.values.get(key)
        if value:
            if not isinstance(value, dict):
                raise config.bad(key, "an object")
            given = Fields(value, config.path)
            break
    kind = _kind(given, config.text("model_type"))
    given.only(_COMMON + KEYS[kind])
    theta = given.number("rope_theta", config.number("rope_theta", 10000.0))
    partial = given.number("partial_rotary_factor", config.number("partial_rotary_factor", 1.0))
    if partial != 1.0 and config.text("model_type") != "phi3":
        raise config.bad("partial_rotary_factor", "1 in this architecture")
    plain = Rope(kind=kind, theta=theta, dim=int(head_dim * partial))
    return plain if kind == "default" else _scaled(plain, given, config)


def _kind(given: Fields, model_type: str) -> RopeKind:
    name = given.text("rope_type", given.text("type", "default"))
    if model_type == "phi3" and name in ("su", "yarn"):  # its earlier names for longrope
        name = "longrope"
    for kind in KEYS:
        if name == kind:
            return kind
    raise BadInput(
        f"unknown rope scaling {name!r}",
        where=Where(path=str(given.path)),
        hint=f"known: {', '.join(KEYS)}; ignoring the scaling would give wrong results",
    )


def _scaled(plain: Rope, given: Fields, config: Fields) -> Rope:
    if plain.kind == "linear":
        return replace(plain, factor=given.number("factor"))
    longest = config.integer("max_position_embeddings", low=1)
    # As in transformers, the value beside the rope's own settings comes first.
    original = config.integer(_ORIGINAL, given.integer(_ORIGINAL, longest, low=1), low=1)
    if plain.kind == "llama3":
        return replace(
            plain,
            factor=given.number("factor"),
            original_context=original,
            low_freq_factor=given.number("low_freq_factor"),
            high_freq_factor=given.number("high_freq_factor"),
        )
    scaled = replace(
        plain,
        factor=given.number("factor", longest / original),
        original_context=original,
        attention_factor=given.optional_number("attention_factor"),
    )
    if plain.kind == "longrope":
        return replace(
            scaled,
            short_factors=given.numbers("short_factor"),
            long_factors=given.numbers("long_factor"),
        )
    return replace(
        scaled,
        beta_fast=given.number("beta_fast", 32.0),
        beta_slow=given.number("beta_slow", 1.0),
        mscale=given.number("mscale", 0.0),
        mscale_all_dim=given.number("mscale_all_dim", 0.0),
        truncate=given.boolean("truncate", True),
    )
