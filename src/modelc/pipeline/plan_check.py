"""What is wrong with how a decoder shall be compiled for a Snapdragon, told from its sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from modelc.decoder.architectures import find_architecture
from modelc.decoder.config import DecoderConfig
from modelc.pipeline.problems import Problem, experts_problem
from modelc.pipeline.recipe import Recipe
from modelc.targets.snapdragon.graph_names import GraphKey

# Seen in the simulator: RMSNorm of [1, AR, heads, width] is wrong in fp16 for narrower ones.
NARROWEST_FP16_NORM: Final = 64


def plan_problems(
    recipe: Recipe, config: DecoderConfig, lengths: tuple[int, ...], fp16: bool
) -> Iterator[Problem]:
    """Yield what static graphs, HTP or Genie can't be.

    Args:
        lengths: the context lengths, the model's own where the recipe names none.
    """
    for check in _CHECKS:
        yield from check(recipe, config, lengths, fp16)


def _experts(
    recipe: Recipe, config: DecoderConfig, lengths: tuple[int, ...], fp16: bool
) -> Iterator[Problem]:
    if problem := experts_problem(config, "Snapdragon targets"):
        yield problem


def _each_once(
    recipe: Recipe, config: DecoderConfig, lengths: tuple[int, ...], fp16: bool
) -> Iterator[Problem]:
    names = [GraphKey(ar, length, 1, 1).name for length in lengths for ar in recipe.ar]
    for name, count in Counter(names).items():
        if count > 1:
            yield (
                f"{count} graphs would be named {name}",
                "give each --ar and --context-length once",
            )


def _one_by_one(
    recipe: Recipe, config: DecoderConfig, lengths: tuple[int, ...], fp16: bool
) -> Iterator[Problem]:
    if 1 not in recipe.ar:
        asked = ",".join(map(str, dict.fromkeys(recipe.ar)))
        yield "no AR-1 graph is asked for, and answers are made token by token", f"--ar {asked},1"


def _room(
    recipe: Recipe, config: DecoderConfig, lengths: tuple[int, ...], fp16: bool
) -> Iterator[Problem]:
    hint = f"use smaller lengths, such as --ar {max(2, min(lengths) // 4)},1"
    for length in dict.fromkeys(lengths):
        for ar in dict.fromkeys(recipe.ar):
            if ar >= length:
                yield f"AR-{ar} does not fit a context of {length}", hint
            elif 2 * ar == length:
                # Genie can't tell the past from the new tokens by their sizes then.
                yield f"AR-{ar} is half of a context of {length}, which Genie misreads", hint
        if length > config.max_context:
            longest = f"use --context-length {config.max_context} or less"
            yield f"a context of {length} is longer than the model's {config.max_context}", longest


def _fp16(
    recipe: Recipe, config: DecoderConfig, lengths: tuple[int, ...], fp16: bool
) -> Iterator[Problem]:
    if not fp16:
        return
    norms = find_architecture(config.architecture).head_norms and recipe.attention == "grouped"
    if norms and config.head_dim < NARROWEST_FP16_NORM:
        wrong = f"HTP gets fp16 norms of heads {config.head_dim} wide wrong when they are grouped"
        yield wrong, "use --attention sha or --quant w8a16"
    useless = {"kv_bits": recipe.kv_bits, "encodings": recipe.encodings}
    for name, value in useless.items():
        if value is not None:
            yield f"the scheme fp16 has no use for the option {name}", "leave it out"


def _formats(
    recipe: Recipe, config: DecoderConfig, lengths: tuple[int, ...], fp16: bool
) -> Iterator[Problem]:
    for name in ("context-binary", "cpp", "model-library"):
        if name in recipe.format:
            yield f"the format {name} is for models that are no decoders", "--format genie"
    for name, count in Counter(recipe.format).items():
        if count > 1:
            yield f"the format {name} is asked for {count} times", "name each format once"
    if fp16 and "aimet" in recipe.format:
        yield "float graphs have no encodings", "leave --format aimet out"
    if set(recipe.format) == {"aimet"}:
        yield "encodings alone are nothing to run", "--format genie,aimet"


def _windows(
    recipe: Recipe, config: DecoderConfig, lengths: tuple[int, ...], fp16: bool
) -> Iterator[Problem]:
    longest = max(lengths)
    if window := min((w for w in config.windows if 0 < w < longest), default=0):
        yield (
            f"layers attend to windows of {window} of {longest} positions; "
            "Genie gives all layers one mask",
            f"use --context-length {window}",
        )


def _toolchain(
    recipe: Recipe, config: DecoderConfig, lengths: tuple[int, ...], fp16: bool
) -> Iterator[Problem]:
    if recipe.toolchain == "sdk" and "ort" in recipe.format:
        yield (
            "the SDK's tools write no models for ONNX Runtime",
            "leave out --format ort, or --toolchain sdk",
        )


Check = Callable[[Recipe, DecoderConfig, tuple[int, ...], bool], Iterator[Problem]]
_CHECKS: Final[tuple[Check, ...]] = (
    _experts,
    _each_once,
    _one_by_one,
    _room,
    _toolchain,
    _fp16,
    _formats,
    _windows,
)
