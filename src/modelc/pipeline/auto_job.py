"""A search for kinds of weights, resolved: what there is to choose from, and how large it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modelc.decoder.config import DecoderConfig
from modelc.errors import BadInput
from modelc.frontends import read_model
from modelc.ir.packing.kinds import KINDS, MATRIX_KINDS, TABLE_KINDS
from modelc.pipeline.decoder_job import LARGE
from modelc.pipeline.job import Job
from modelc.pipeline.module_kinds import matrix_shapes
from modelc.pipeline.recipe import Recipe
from modelc.pipeline.simulation import weight_bits
from modelc.pipeline.simulation_plan import simulation_job
from modelc.quant.assign import Option
from modelc.quant.overrides import EMBEDDING, HEAD, overridden, scheme_kinds, weight_kinds
from modelc.quant.patterns import as_overrides
from modelc.targets.find import find_target

# Family -> scheme whose activations, cache and most precise kinds a search begins with.
BASES: Final[Mapping[str, str]] = {"cpu": "w8", "snapdragon": "w8a16"}

# Kinds for which the CPU has kernels, and whose codes lie as small in its files as they are.
CPU_KINDS: Final = ("w8", "u4_b16", "u4_b32", "w4_b32", "w4_b64", "w4_b128", "w4")


@dataclass(frozen=True, eq=False)
class AutoJob:
    """A search, with nothing left open but the kinds.

    Attributes:
        job: with the base scheme.
        shapes: module -> shape of its matrix [outputs, inputs], of those with kinds.
        candidates: module -> kinds that it may have, the one of most bits first.
        fixed: bytes of the matrices that have no kind, as they lie in the source.
    """

    job: Job
    config: DecoderConfig
    shapes: Mapping[str, tuple[int, ...]]
    candidates: Mapping[str, tuple[str, ...]]
    fixed: int

    @property
    def weights(self) -> int:
        """How many numbers the matrices with kinds have."""
        return sum(map(math.prod, self.shapes.values()))

    @property
    def tries_algorithms(self) -> bool:
        """Whether trials let the recipe's algorithms work on the weights: in a large model they
        take too long, and trials round to nearest."""
        return bool(self.job.recipe.algorithms) and self.weights <= LARGE

    @property
    def open(self) -> dict[str, tuple[str, ...]]:
        """The modules that have a choice."""
        return {module: kinds for module, kinds in self.candidates.items() if len(kinds) > 1}

    def options(self, costs: Mapping[str, Mapping[str, float]]) -> dict[str, list[Option]]:
        """Return what each module may be and costs; what has no choice costs nothing."""
        return {
            module: [
                Option(kind, self.bytes(module, kind), costs.get(module, {}).get(kind, 0.0))
                for kind in kinds
            ]
            for module, kinds in self.candidates.items()
        }

    def bytes(self, module: str, kind: str) -> int:
        return round(math.prod(self.shapes[module]) * weight_bits(module, kind) / 8)

    def recipe(self, kinds: Mapping[str, str]) -> Recipe:
        """Return a recipe with these kinds, written as overrides of the base scheme."""
        plain = scheme_kinds(self.shapes, self.job.scheme)
        return self.job.recipe.model_copy(update={"overrides": as_overrides(kinds, plain)})


def base_recipe(recipe: Recipe) -> Recipe:
    """Return the recipe with the scheme that a search begins with, for what does not go by kinds
    of weights.

    Raises:
        BadInput: the target has no such kinds.
    """
    family = find_target(recipe.target).family
    if family not in BASES:
        raise BadInput(
            f"{recipe.target} has no kinds of weights to choose from",
            hint=f"--quant auto is for {' and '.join(BASES)} targets",
        )
    base = BASES[family]
    return recipe.model_copy(update={"quant": base, "budget": None})


def auto_job(source: Path, recipe: Recipe) -> AutoJob:
    """Resolve a recipe, whatever its scheme and budget, for a search.

    Raises:
        BadInput: as `make_job`; or the recipe brings scales of its own.
    """
    if recipe.encodings is not None:
        raise BadInput(
            "--encodings say the kinds and scales of weights: there is nothing to choose",
            hint="leave --encodings or --quant auto out",
        )
    job = simulation_job(source, base_recipe(recipe), searched=True)
    model = read_model(source)
    shapes = matrix_shapes(model)
    pinned = weight_kinds(shapes, job.scheme, job.recipe.overrides)
    fixed = overridden(shapes, job.recipe.overrides)
    candidates = {
        module: (kind,) if module in fixed else _candidates(job, recipe, module, shapes[module])
        for module, kind in pinned.items()
    }
    others = [
        matrix.row_count * matrix.row_bytes
        for name, matrix in model.weights.items()
        if len(matrix.shape) == 2 and name.removesuffix(".weight") not in pinned
    ]
    taken = {module: shapes[module] for module in pinned}
    return AutoJob(job, model.config, taken, candidates, sum(others))


def _candidates(job: Job, recipe: Recipe, module: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return the kinds that a target takes of a module's matrix."""
    if module == EMBEDDING:
        return tuple(TABLE_KINDS)
    names: tuple[str, ...] = CPU_KINDS
    if chipset := job.target.chipset:
        arch = int(chipset.htp_arch.removeprefix("v"))
        names = tuple(
            name
            for name, form in MATRIX_KINDS.items()
            if form.since <= arch
            and (form.bits <= 8 or module == HEAD)
            and not ("dlc" in recipe.format and form.block and not form.scale_bits)
        )
    fitting = [name for name in names if not shape[-1] % max(KINDS[name].block, 1)]
    return tuple(sorted(fitting, key=lambda name: -KINDS[name].bits_per_weight))
