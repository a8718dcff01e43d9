"""A job for a network: one source and one recipe, resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from modelc.errors import BadInput
from modelc.frontends.networks import NetworkKind, network_kind
from modelc.pipeline.recipe import Recipe
from modelc.pipeline.recipe_sections import Calibration, Network, Verify
from modelc.pipeline.recipe_use import ONLY_FOR_DECODERS, ONLY_FOR_TEXTS
from modelc.pipeline.step import SOURCE
from modelc.quant.network.schemes import (
    NetworkScheme,
    SchemeOptions,
    customise,
    find_network_scheme,
)
from modelc.targets.find import Target, find_target
from modelc.targets.snapdragon.network.op_packages import OpPackage, parse_op_package

CALIBRATION_FEEDS: Final = "calibration_feeds"
VERIFY_FEEDS: Final = "verify_feeds"
PREPROCESS: Final = "preprocess"
FEEDS: Final = (CALIBRATION_FEEDS, VERIFY_FEEDS)
FORMATS: Final = ("context-binary", "dlc", "cpp", "model-library")
RANDOM: Final = 4
"""Made-up feeds that a float network is verified on, if there are no others."""

_FAMILIES: Final = ("snapdragon", "cpu")
_DEFAULTS: Final = {"snapdragon": "w8a16", "cpu": "fp32"}
FLOAT_CPU: Final = NetworkScheme("fp32", find_network_scheme("fp16").precision, 0, 80.0, 0.9999)


@dataclass(frozen=True, eq=False)
class NetworkJob:
    """What is to be compiled for what, with nothing left open.

    Attributes:
        targets: one, or several chipsets.
        scheme: as the recipe changes it.
        sources: name -> file or folder outside the store, for the steps that read them.
        op_packages: the user's own operators.
    """

    source: Path
    kind: NetworkKind
    recipe: Recipe
    targets: tuple[Target, ...]
    scheme: NetworkScheme
    sources: Mapping[str, Path]
    op_packages: tuple[OpPackage, ...]

    @property
    def target(self) -> Target:
        return self.targets[0]

    @property
    def formats(self) -> tuple[str, ...]:
        return tuple(name for name in FORMATS if name in self.recipe.format)

    @property
    def is_calibrated(self) -> bool:
        return self.scheme.is_quantised


def is_network(source: Path) -> bool:
    return network_kind(source) is not None


def make_network_job(source: Path, recipe: Recipe) -> NetworkJob:
    """Resolve a recipe for a network.

    Raises:
        BadInput: no such source, target or scheme, or they don't go together.
        Missing: an op package is not there.
    """
    kind = network_kind(source)
    assert kind is not None
    targets = _targets(recipe)
    _refuse_useless(recipe, targets[0])
    recipe = _with_formats(recipe, targets[0])
    scheme = _scheme(recipe, targets)
    asked = recipe.network
    if not scheme.is_quantised:
        _refuse_for_floats(recipe, scheme)
    if asked.boundary == "codes" and "model-library" in recipe.format:
        raise BadInput(
            "a model library takes and gives the model's own types, no codes",
            hint="leave --boundary out, or choose another format",
        )
    if scheme.is_quantised and recipe.calibration.data is None and asked.random_feeds is None:
        raise BadInput(
            f"the scheme {scheme.name} needs data to calibrate on",
            hint="give --calibration-data (an input list, .npz, a folder of images, "
            "FILE.py:function), or --random-feeds N to go without",
        )
    sources = {SOURCE: source}
    if recipe.calibration.data is not None:
        sources[CALIBRATION_FEEDS] = recipe.calibration.data
    if recipe.verify.data is not None:
        sources[VERIFY_FEEDS] = recipe.verify.data
    if asked.preprocess is not None:
        sources[PREPROCESS] = asked.preprocess
    packages = tuple(map(parse_op_package, asked.op_packages))
    sources |= {f"op_package_{n}": package.library for n, package in enumerate(packages)}
    names = ",".join(target.name for target in targets)
    resolved = recipe.model_copy(update={"target": names, "quant": scheme.name})
    return NetworkJob(source, kind, resolved, targets, scheme, sources, packages)


def _targets(recipe: Recipe) -> tuple[Target, ...]:
    names = [name.strip() for name in recipe.target.split(",") if name.strip()]
    targets = tuple(map(find_target, names))
    for target in targets:
        if target.family not in _FAMILIES:
            raise BadInput(
                f"{target.name} takes language models only",
                hint="compile other models for a chipset or the cpu",
            )
    if len(targets) != len({target.chipset or target.name for target in targets}):
        raise BadInput("a target is named twice", hint="name each chipset once")
    if len(targets) > 1 and any(target.chipset is None for target in targets):
        raise BadInput("only chipsets can be compiled for together", hint="compile twice")
    return targets


def _with_formats(recipe: Recipe, target: Target) -> Recipe:
    plain = Recipe.model_fields["format"].default
    if target.chipset is None or recipe.format == plain:
        return recipe.model_copy(update={"format": ("context-binary",)})
    if strange := [name for name in recipe.format if name not in FORMATS]:
        raise BadInput(
            f"the format {strange[0]} is for language models",
            hint=f"this model can become {', '.join(FORMATS)}",
        )
    return recipe


def _scheme(recipe: Recipe, targets: tuple[Target, ...]) -> NetworkScheme:
    family, asked = targets[0].family, recipe.network
    name = recipe.quant or _DEFAULTS[family]
    if family == "snapdragon" and recipe.quant is None and recipe.calibration.data is None:
        name = "fp16"  # without data the one that needs none
    if family == "cpu":
        if name != FLOAT_CPU.name:
            raise BadInput(
                f"the cpu takes networks as {FLOAT_CPU.name}, not as {name}",
                hint="leave --quant out, or compile for a chipset",
            )
        return FLOAT_CPU
    options = SchemeOptions(
        activations=asked.activations,
        weights=asked.weights,
        per_channel=False if asked.per_tensor else None,
        symmetric=asked.symmetric or None,
        sensitive_db=asked.sensitive_db,
        min_sqnr_db=recipe.verify.min_sqnr_db,
        min_cosine=recipe.verify.min_cosine,
    )
    scheme = customise(find_network_scheme(name), options)
    for target in targets:
        target.check_scheme(scheme.name)
    return scheme


def _refuse_useless(recipe: Recipe, target: Target) -> None:
    plain = Recipe(target=recipe.target)
    useless = [name for name in ONLY_FOR_DECODERS if getattr(recipe, name) != getattr(plain, name)]
    sections: dict[str, Any] = {"calibration": Calibration(), "verify": Verify()}
    for section, keys in ONLY_FOR_TEXTS.items():
        given = getattr(recipe, section)
        useless += [
            f"{section}.{key}"
            for key in keys
            if getattr(given, key) != getattr(sections[section], key)
        ]
    if useless:
        raise BadInput(
            f"a model that is no decoder has no use for the option{'s' * (len(useless) > 1)} "
            f"{', '.join(useless)}",
            hint="leave it out",
        )
    if target.chipset is None:
        asked, nothing = recipe.network, Network()
        given = [
            key for key, value in asked if key not in _ON_CPU and value != getattr(nothing, key)
        ]
        if given or recipe.format != plain.format or recipe.overrides:
            raise BadInput(
                f"the cpu has no use for {', '.join(given) or 'the options format and overrides'}",
                hint="they say how a network is compiled for a chipset",
            )


def _refuse_for_floats(recipe: Recipe, scheme: NetworkScheme) -> None:
    """Refuse what says how codes are chosen, or where."""
    asked, nothing = recipe.network, Network()
    given = [key for key in _FOR_CODES if getattr(asked, key) != getattr(nothing, key)]
    given += ["overrides"] * bool(recipe.overrides)
    if given:
        raise BadInput(
            f"the scheme {scheme.name} has no codes, and no use for {', '.join(given)}",
            hint="choose a quantised scheme, such as w8a16",
        )


_FOR_CODES: Final = ("equalise", "rounding", "bias_correction", "boundary")
_ON_CPU: Final = ("dims", "random_feeds", "preprocess")
