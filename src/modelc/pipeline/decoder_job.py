"""A job of compiling a decoder for a Snapdragon, resolved as far as its configuration says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from modelc.decoder.config import DecoderConfig, DecoderModel
from modelc.decoder.parts import DecoderPart
from modelc.errors import BadInput, Where
from modelc.frontends import read_model
from modelc.ir.coded import CodedMatrix
from modelc.ir.packing.kinds import MATRIX_KINDS, TABLE_KINDS
from modelc.pipeline.choose_parts import Choice, asked_parts, choose_parts
from modelc.pipeline.free_memory import free_memory
from modelc.pipeline.imported_weights import kinds_of_file
from modelc.pipeline.job import Job
from modelc.pipeline.layout import Layout
from modelc.pipeline.module_kinds import matrix_shapes, most_and_others
from modelc.pipeline.part_sizes import PartSize, Sizes, layer_activations
from modelc.pipeline.plan_check import plan_problems
from modelc.pipeline.problems import Problems
from modelc.pipeline.recipe import Recipe
from modelc.pipeline.steps import DEFAULT_CONTEXT
from modelc.quant.overrides import check_architecture, scheme_kinds, weight_kinds
from modelc.targets.snapdragon.chipsets import Chipset

# Numbers in a model above which steps are processes of their own, and the simulator takes hours.
LARGE: Final = 50_000_000
_FLOAT_BITS: Final = 16


@dataclass(frozen=True)
class DecoderJob:
    """What the steps of a Snapdragon decoder are planned from.

    Attributes:
        has_codes: the source came quantised.
        kinds: module -> kind of its weights; empty for float schemes.
        kv: type of the KV cache.
        canonical_length: context that the canonical graph is built for: the same for all context
            lengths where they don't matter to it, so that what follows from it is kept.
    """

    config: DecoderConfig
    chipset: Chipset
    quantised: bool
    has_codes: bool
    kinds: Mapping[str, str]
    kv: str
    sizes: Sizes
    layout: Layout
    canonical_length: int

    @property
    def weights(self) -> int:
        """How many numbers the model has."""
        return sum(self.sizes.elements.values())

    @property
    def is_large(self) -> bool:
        return self.weights > LARGE

    def graphs(self, place: str) -> dict[str, tuple[int, int]]:
        """Return (AR, context length) of every graph of a part by the graph's name."""
        return {self.layout.graph_name(*size, place): size for size in self.layout.lengths}

    def kinds_of(self, part: DecoderPart) -> dict[str, str]:
        """Return the kinds of weights of a part's modules by the beginning of their paths: "" has
        what most have."""
        return most_and_others(
            {m: kind for m, kind in self.kinds.items() if part.holds(f"{m}.weight")}
        )

    def size(self, place: str) -> PartSize:
        """Return what a part takes."""
        return self.sizes.part(self.layout.part(place))

    def before(self, place: str) -> str:
        """Return the part before a part, "" for the first."""
        places = ("", *self.layout.places)
        return places[places.index(place) - 1]


@lru_cache(maxsize=4)
def decoder_job(job: Job) -> DecoderJob:
    """Resolve a job; the source's configuration is read, no weight is.

    Raises:
        BadInput: the recipe and the model don't go together; says all that is in the way.
    """
    chipset, recipe, model = job.target.chipset, job.recipe, read_model(job.source)
    assert chipset is not None
    config = model.config
    lengths = recipe.context_length or (min(config.max_context, DEFAULT_CONTEXT),)
    quantised = job.scheme.activations != "float"
    kv = f"uint{recipe.kv_bits}" if recipe.kv_bits else job.scheme.kv
    problems = Problems(plan_problems(recipe, config, lengths, fp16=not quantised))
    imported = problems.attempt(lambda: kinds_of_file(job, model, kv) if quantised else {})
    kinds = problems.attempt(lambda: _kinds(job, model, imported or {}))
    sizes = _sizes(job, model, kinds or {}, kv, lengths)
    choice = None if kinds is None else problems.attempt(lambda: _choose(job, sizes))
    problems.tell()
    assert kinds is not None and choice is not None
    grouped = recipe.attention == "grouped"
    return DecoderJob(
        config=config,
        chipset=chipset,
        quantised=quantised,
        has_codes=any(isinstance(one, CodedMatrix) for one in model.weights.values()),
        kinds=kinds,
        kv=kv,
        sizes=sizes,
        layout=Layout(recipe.ar, lengths, choice.parts, grouped, choice.why),
        canonical_length=_canonical_length(config, max(lengths)),
    )


def _kinds(job: Job, model: DecoderModel, imported: Mapping[str, str]) -> dict[str, str]:
    """Return the kind of every module's weights, by the recipe and the encodings file."""
    assert job.target.chipset is not None
    kinds = weight_kinds(matrix_shapes(model), job.scheme, job.recipe.overrides, imported)
    check_architecture(kinds, int(job.target.chipset.htp_arch.removeprefix("v")))
    _check_dlc(job.recipe, kinds)
    return kinds


def _sizes(
    job: Job, model: DecoderModel, kinds: Mapping[str, str], kv: str, lengths: tuple[int, ...]
) -> Sizes:
    assert job.target.chipset is not None
    config, recipe = model.config, job.recipe
    plain = scheme_kinds(matrix_shapes(model), job.scheme)
    cached = 2 * config.kv_heads * config.head_dim * max(lengths)  # numbers in a layer's KV cache
    grouped = recipe.attention == "grouped"
    return Sizes(
        model,
        bits=lambda name: _bits(kinds.get(name.removesuffix(".weight"), "")),
        scheme_bits=lambda name: _bits(plain.get(name.removesuffix(".weight"), "")),
        kv_per_layer=cached if kv == "uint8" else 2 * cached,
        activations=layer_activations(config, max(recipe.ar), max(lengths), grouped),
        graphs=len(recipe.ar) * len(lengths) if job.target.chipset.weight_sharing else 1,
    )


def _check_dlc(recipe: Recipe, kinds: Mapping[str, str]) -> None:
    """The DLC's writer loses scales of blocks: what it writes crashes whatever reads it."""
    forms = {m: MATRIX_KINDS[kind] for m, kind in kinds.items() if kind in MATRIX_KINDS}
    lost = [module for module, form in forms.items() if form.block and not form.scale_bits]
    if "dlc" in recipe.format and lost:
        raise BadInput(
            f"a DLC can't hold the float scales of blocks that {len(lost)} modules have",
            where=Where(module=lost[0]),
            hint="use --quant w4a16 or w4a16_lpbq, or leave --format dlc out",
        )


# Parts are chosen so that as many with layers can be compiled at once; what ships is not to depend
# on how many cores a machine has.
AT_ONCE: Final = 2


def _choose(job: Job, sizes: Sizes) -> Choice:
    splits, asked, free = job.recipe.splits, job.recipe.memory_limit, free_memory()
    if splits == "auto":
        choice = choose_parts(sizes, asked or _settled(free), AT_ONCE)
    else:
        choice = asked_parts(sizes, splits)
    if choice.host > (asked or free):
        have = "the memory limit of" if asked else "the free memory of"
        raise BadInput(
            f"compiling the largest part takes about {choice.host / 1e9:.1f} GB, more than {have} "
            f"{(asked or free) / 1e9:.1f} GB",
            hint=f"use --memory-limit {-(-choice.host // (1 << 30))}G"
            + (" if the machine can give as much" if not asked else "")
            + ("" if splits == "auto" else ", or more --splits"),
        )
    return choice


def _settled(free: int) -> int:
    """Round down to one of a few sizes, so that the same machine chooses the same parts when a
    little more or less of its memory is free."""
    step = 1 << max(free.bit_length() - 2, 0)
    return free // step * step


def _canonical_length(config: DecoderConfig, longest: int) -> int:
    if config.rope.kind == "longrope" or any(config.windows):
        return longest  # frequencies or masks go by it
    return max(longest, min(config.max_context, DEFAULT_CONTEXT))


def _bits(kind: str) -> float:
    """Bits of a weight, scales included."""
    if kind in MATRIX_KINDS:
        return MATRIX_KINDS[kind].bits_per_weight
    return int(TABLE_KINDS[kind].removeprefix("uint")) if kind else _FLOAT_BITS
