"""A job: one source and one recipe, resolved; what the planners of all target families take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from modelc.errors import BadInput
from modelc.frontends import detect
from modelc.pipeline.recipe import Calibration, Recipe
from modelc.pipeline.step import SOURCE
from modelc.quant.schemes import Scheme, default_scheme, find_scheme
from modelc.targets.find import Target, find_target

# Options that only some families have a use for; elsewhere they are refused, not ignored.
_ONLY_FOR: Final[dict[str, tuple[str, ...]]] = {
    "gguf": ("cpu",),
    **dict.fromkeys(
        (
            "ar", "attention", "calibration", "encodings", "format", "keep_twins", "kv_bits",
            "memory_limit", "overrides", "splits", "toolchain",
        ),
        ("snapdragon",),
    ),
}  # fmt: skip

CALIBRATION_TEXT: Final = "calibration_text"
VERIFY_TEXT: Final = "verify_text"
ENCODINGS_FILE: Final = "encodings"


@dataclass(frozen=True, eq=False)
class Job:
    """What is to be compiled for what, with nothing left open.

    Attributes:
        sources: name -> file or folder outside the store, for the steps that read them.
        recipe: with its scheme and texts filled in.
    """

    source: Path
    recipe: Recipe
    target: Target
    scheme: Scheme
    sources: Mapping[str, Path]


def make_job(source: Path, recipe: Recipe) -> Job:
    """Resolve a recipe for a source.

    Raises:
        BadInput: no such source, target or scheme, or they don't go together.
    """
    kind = detect(source)
    target = find_target(recipe.target)
    scheme = find_scheme(recipe.quant or default_scheme(target.family, kind), target.family)
    target.check_scheme(scheme.name)
    _refuse_useless(recipe, target)
    _check_calibration(recipe, scheme)
    _check_blocks(kind, scheme, recipe)
    _check_lengths(recipe, target)
    sources = {
        SOURCE: source,
        # Two texts: what ranges were gathered on would flatter the result.
        CALIBRATION_TEXT: recipe.calibration.text or _carried("calibration.txt"),
        VERIFY_TEXT: recipe.verify.text or _carried("verify.txt"),
    }
    if recipe.encodings:
        sources[ENCODINGS_FILE] = recipe.encodings
    resolved = recipe.model_copy(update={"target": target.name, "quant": scheme.name})
    return Job(source, resolved, target, scheme, sources)


def _carried(name: str) -> Path:
    return Path(str(resources.files("modelc.data").joinpath(name)))


def _refuse_useless(recipe: Recipe, target: Target) -> None:
    useless = [
        (name, families)
        for name, families in _ONLY_FOR.items()
        if target.family not in families
        and getattr(recipe, name) != Recipe.model_fields[name].get_default()
    ]
    if useless:
        names = ", ".join(name for name, _ in useless)
        allies = " and ".join(dict.fromkeys(family for _, found in useless for family in found))
        raise BadInput(
            f"{target.name} has no use for the option{'s' * (len(useless) > 1)} {names}",
            hint=f"for {allies} targets only; leave it out",
        )


def _check_calibration(recipe: Recipe, scheme: Scheme) -> None:
    # The text is of use anyway: compiled parts are tried on it.
    given = recipe.calibration.model_copy(update={"text": None})
    if given == Calibration():
        return
    reason = ""
    if scheme.activations == "float":
        reason = f"the scheme {scheme.name} has floats for activations"
    elif recipe.encodings is not None:
        reason = "--encodings are used instead of calibrating"
    if reason:
        raise BadInput(
            f"{reason}: no use for the option calibration",
            hint="leave samples and sequence_length out",
        )


def _check_blocks(kind: str, scheme: Scheme, recipe: Recipe) -> None:
    if scheme.weights == "gguf" and kind != "gguf":
        raise BadInput(
            "the scheme gguf keeps the blocks of a .gguf file, which the source is not",
            hint="use --quant q8_0, q4_0 or fp32",
        )
    if recipe.gguf != "exact" and scheme.weights != "gguf":
        raise BadInput(
            f"the scheme {scheme.name} has no use for the option gguf",
            hint="it says how the scheme gguf keeps a .gguf file's blocks; leave it out",
        )


def _check_lengths(recipe: Recipe, target: Target) -> None:
    if target.family not in _ONLY_FOR["ar"] and len(recipe.context_length) > 1:
        raise BadInput(
            f"{target.name} has one context length, not {len(recipe.context_length)}",
            hint=f"use --context-length {max(recipe.context_length)}",
        )
