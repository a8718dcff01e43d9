"""A job: one source and one recipe, resolved; what the planners of all target families take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from modelc.errors import BadInput
from modelc.frontends import detect
from modelc.frontends.huggingface.source import stored_codes
from modelc.ir.packing.kinds import KINDS
from modelc.ir.stored import StoredMatrix
from modelc.pipeline.card_files import card_sources
from modelc.pipeline.recipe import AUTO, Recipe
from modelc.pipeline.recipe_sections import Calibration, Section
from modelc.pipeline.recipe_use import ONLY_FOR
from modelc.pipeline.step import SOURCE
from modelc.quant.algorithms.choose import choose_algorithms
from modelc.quant.algorithms.layer import Algorithm
from modelc.quant.aliases import ALIASES
from modelc.quant.schemes import Scheme, default_scheme, find_scheme
from modelc.quant.stored_scheme import stored_scheme
from modelc.targets.find import Target, find_target

_TOOLCHAINS: Final = {"snapdragon": ("pip", "sdk"), "qaic": ("apps", "qnn")}

CALIBRATION_TEXT: Final = "calibration_text"
CALIBRATION_DATA: Final = "calibration_data"
VERIFY_TEXT: Final = "verify_text"
ENCODINGS_FILE: Final = "encodings"
TILES_FILE: Final = "tiles"


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


def make_job(source: Path, recipe: Recipe, *, searched: bool = False) -> Job:
    """Resolve a recipe for a source.

    Args:
        searched: kinds of weights are being searched for, which goes by the calibration's samples
            whatever the scheme.

    Raises:
        BadInput: no such source, target or scheme, or they don't go together.
    """
    kind = detect(source)
    _refuse_search(recipe)
    target = find_target(recipe.target)
    recipe = _with_own_algorithms(recipe, stored_codes(source) if kind == "huggingface" else {})
    scheme = find_scheme(recipe.quant or _default(source, kind, target), target.family)
    target.check_scheme(scheme.name)
    _refuse_useless(recipe, target)
    _check_algorithms(recipe, scheme)
    if not searched and not uses_calibration(recipe, scheme):
        _refuse_calibration(recipe, scheme)
    _check_blocks(kind, scheme, recipe)
    if recipe.verify.data is not None or recipe.verify.samples is not None:
        raise BadInput(
            "a language model is verified on a text",
            hint="use --verify-text, and verify.tokens for how much of it",
        )
    _check_lengths(recipe, target)
    sources = {
        SOURCE: source,
        # Two texts: what ranges were gathered on would flatter the result.
        calibration_source(recipe): _calibration_file(recipe),
        VERIFY_TEXT: recipe.verify.text or _carried("verify.txt"),
    }
    if recipe.encodings:
        sources[ENCODINGS_FILE] = recipe.encodings
    if recipe.cuda.tiles:
        sources[TILES_FILE] = recipe.cuda.tiles
    sources |= card_sources(recipe.qaic)
    resolved = recipe.model_copy(update={"target": target.name, "quant": scheme.name})
    return Job(source, resolved, target, scheme, sources)


def _refuse_search(recipe: Recipe) -> None:
    if recipe.quant == AUTO:
        raise BadInput(
            "--quant auto is no scheme but a search, which compile makes",
            hint="use a scheme, or the recipe.toml of a bundle that was compiled so",
        )
    if recipe.budget is not None:
        raise BadInput(
            f"the scheme {recipe.quant or 'by default'} has no use for the option budget",
            hint="use --quant auto, or leave it out",
        )


def _default(source: Path, kind: str, target: Target) -> str:
    """Return the scheme used when none is asked for: one that keeps the codes of a folder that
    came quantised, if there is one."""
    codes = stored_codes(source) if kind == "huggingface" else {}
    chipset = target.chipset
    htp_arch = int(chipset.htp_arch.removeprefix("v")) if chipset and chipset.has_htp else None
    kept = stored_scheme(codes.values(), target.family, htp_arch)
    return kept or default_scheme(target.family, kind)


def _with_own_algorithms(recipe: Recipe, codes: Mapping[str, StoredMatrix]) -> Recipe:
    """Return the recipe with the algorithms that its scheme's name stands for, if it has none and
    the source has no codes to keep."""
    alias = ALIASES.get(recipe.quant or "")
    if alias is None or recipe.algorithms or codes:
        return recipe
    return recipe.model_copy(update={"algorithms": alias.algorithms})


def calibration_source(recipe: Recipe) -> str:
    """Return the name under which the steps read what ranges are gathered on."""
    return CALIBRATION_TEXT if recipe.calibration.data is None else CALIBRATION_DATA


def _calibration_file(recipe: Recipe) -> Path:
    given = recipe.calibration
    return given.data or given.text or _carried("calibration.txt")


def _carried(name: str) -> Path:
    return Path(str(resources.files("modelc.data").joinpath(name)))


def _refuse_useless(recipe: Recipe, target: Target) -> None:
    plain = Recipe(target=recipe.target)
    useless = [
        (name, families)
        for name, families in ONLY_FOR.items()
        if target.family not in families and getattr(recipe, name) != getattr(plain, name)
    ]
    if useless:
        names = ", ".join(_asked(recipe, name) for name, _ in useless)
        allies = " and ".join(dict.fromkeys(family for _, found in useless for family in found))
        raise BadInput(
            f"{target.name} has no use for the option{'s' * (len(useless) > 1)} {names}",
            hint=f"for {allies} targets only; leave it out"
            if allies
            else "for models that are no decoders; leave it out",
        )
    known = _TOOLCHAINS.get(target.family, ())
    if recipe.toolchain is not None and recipe.toolchain not in known:
        raise BadInput(
            f"{target.name} has no toolchain {recipe.toolchain}",
            hint=f"it has {' and '.join(known)}",
        )


def _asked(recipe: Recipe, name: str) -> str:
    """Name an option, or those of a section that are asked for."""
    section, plain = getattr(recipe, name), Recipe.model_fields[name].default
    if not isinstance(section, Section):
        return name
    asked = [key for key, value in section if value != getattr(plain, key)]
    return ", ".join(f"{name}.{key}" for key in asked)


def _check_algorithms(recipe: Recipe, scheme: Scheme) -> None:
    if not recipe.algorithms:
        if recipe.algorithm_options:
            raise BadInput("there are options of algorithms, but no algorithms")
        return
    if scheme.weights not in KINDS:
        raise BadInput(
            f"the scheme {scheme.name} leaves weights as its kernels want them: no use for the "
            "option algorithms",
            hint="use a scheme with a kind of weights, such as w4_b32 or w4a16",
        )
    if recipe.encodings is not None:
        raise BadInput(
            "--encodings bring the scales of the weights: no use for the option algorithms",
            hint="leave one of them out",
        )
    _algorithms(recipe)


def _algorithms(recipe: Recipe) -> tuple[Algorithm, ...]:
    if not recipe.algorithms:
        return ()
    return choose_algorithms(recipe.algorithms, recipe.algorithm_options)


def uses_calibration(recipe: Recipe, scheme: Scheme) -> bool:
    """Return whether ranges are gathered, or algorithms look at the inputs of matrices."""
    gathered = scheme.is_calibrated and recipe.encodings is None
    return gathered or any(each.needs_inputs for each in _algorithms(recipe))


def _refuse_calibration(recipe: Recipe, scheme: Scheme) -> None:
    # On a Snapdragon its samples are of use anyway: compiled parts are tried on them.
    given = recipe.calibration
    if "snapdragon" in scheme.families:
        given = given.model_copy(update={"text": None, "data": None})
    if given == Calibration():
        return
    reason = f"the scheme {scheme.name} has no ranges of activations"
    if recipe.encodings is not None:
        reason = "--encodings are used instead of calibrating"
    raise BadInput(
        f"{reason}: no use for the option calibration",
        hint="leave out how to calibrate: samples, sequence_length, observer",
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
    if target.family not in ONLY_FOR["ar"] and len(recipe.context_length) > 1:
        raise BadInput(
            f"{target.name} has one context length, not {len(recipe.context_length)}",
            hint=f"use --context-length {max(recipe.context_length)}",
        )
