"""A source under a recipe's scheme, run on the CPU in floats and not compiled."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from modelc.bundle.tokenizer import Tokenizer, load_tokenizer
from modelc.frontends import read_model
from modelc.ir.packing.kinds import KINDS, TABLE_KINDS
from modelc.pipeline.decoder_job import decoder_job
from modelc.pipeline.events import Events, ignore
from modelc.pipeline.execute import execute
from modelc.pipeline.job import Job
from modelc.pipeline.module_kinds import cpu_kinds, matrix_shapes
from modelc.pipeline.recipe import Recipe
from modelc.pipeline.rounded_graph import rounded_graph
from modelc.pipeline.simulation_plan import simulation_job, simulation_plan
from modelc.pipeline.step import StepContext
from modelc.pipeline.steps import FACTS, canonical_graph
from modelc.pipeline.store import Store
from modelc.quant.algorithms.table import ALGORITHMS
from modelc.quant.overrides import EMBEDDING

if TYPE_CHECKING:
    import onnx_ir as ir

# Of float logits, which are kept: they are asked for again with every other scheme.
KEPT_BYTES: Final = 512 << 20

Sequences = Sequence[Sequence[int]]


class Simulated:
    """A source, and the same as its scheme stores it; needs the store that `simulate` holds."""

    def __init__(self, job: Job, folders: Mapping[str, Path]) -> None:
        self.job = job
        self._folders = folders
        self._float_logits: tuple[tuple[tuple[int, ...], ...], list[np.ndarray]] = ((), [])

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return load_tokenizer(self._folders["import"])

    @cached_property
    def context_length(self) -> int:
        """The longest sequence that both take."""
        facts = json.loads((self._folders["canonical"] / FACTS).read_text())
        return min([int(facts["context_length"]), *self.job.recipe.context_length[:1]])

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape [outputs, inputs] of each matrix by module."""
        return matrix_shapes(read_model(self.job.source))

    @cached_property
    def kinds(self) -> dict[str, str]:
        """The kind of each module's weights; none for a scheme without."""
        if self.job.target.chipset is not None:
            return dict(decoder_job(self.job).kinds)
        return cpu_kinds(self.job, read_model(self.job.source))

    @property
    def has_transforms(self) -> bool:
        """Whether algorithms make other tensors of the same model."""
        return any(ALGORITHMS[name].stage == "transform" for name in self.job.recipe.algorithms)

    def float_model(self) -> ir.Model:
        """Return the source's own canonical graph."""
        return canonical_graph(self._context("canonical"))

    def model(self, kinds: Mapping[str, str] | None = None) -> ir.Model:
        """Return the expanded graph with everything rounded; `passes.simulate` says how.

        Args:
            kinds: module -> kind of its weights, in place of the recipe's; what algorithms made
                codes of is rounded again where its kind differs.
        """
        scheme = self.job.scheme
        return rounded_graph(
            canonical_graph(self._context("canonical", "weights")),
            self._folders.get("encodings"),
            weights=self._weights() if kinds is None else kinds,
            activations="encoded" if scheme.is_encoded else scheme.activations,
            gguf=self.job.recipe.gguf,
        )

    def float_logits(self, sequences: Sequences) -> Iterator[np.ndarray]:
        """Yield the float model's logits, float32 [tokens, vocab] for each sequence; those of the
        last sequences are kept."""
        asked = tuple(map(tuple, sequences))
        known, rows = self._float_logits
        if known == asked:
            yield from rows
            return
        kept: list[np.ndarray] = []
        size = 0
        for logits in _logits(self.float_model(), sequences):
            size += logits.nbytes
            if size <= KEPT_BYTES:
                kept.append(logits)
            yield logits
        if size <= KEPT_BYTES:
            self._float_logits = (asked, kept)

    def share_float_logits(self, other: Simulated) -> None:
        """Take what `other`, of the same source, has kept of the float model's logits."""
        self._float_logits = other._float_logits

    def logits(
        self, sequences: Sequences, kinds: Mapping[str, str] | None = None
    ) -> Iterator[np.ndarray]:
        """Yield the logits under the scheme, float32 [tokens, vocab] for each sequence.

        Args:
            kinds: as for `model`.
        """
        return _logits(self.model(kinds), sequences)

    def _weights(self) -> dict[str, str]:
        from modelc.passes.simulate import GGML

        blocks = self.job.scheme.weights
        return {"": blocks} if blocks in GGML else self.kinds

    def _context(self, *steps: str) -> StepContext:
        nowhere = self._folders["canonical"]
        return StepContext(
            inputs={name: path for name, path in self._folders.items() if name in steps},
            options={},
            sources=self.job.sources,
            out=nowhere,
            scratch=nowhere,
            partial=nowhere,
        )


@contextmanager
def simulate(
    source: Path, recipe: Recipe, *, store: Store | None = None, events: Events = ignore
) -> Iterator[Simulated]:
    """Bring weights and encodings into the store and give what can be run of them.

    Raises:
        ModelcError: as `execute`.
    """
    job = simulation_job(source, recipe)
    store = store or Store()
    with store.in_use():
        results = execute(simulation_plan(job), store, job.sources, events)
        yield Simulated(job, {result.name: result.path for result in results if result.entry})


def weight_bits(module: str, kind: str) -> float:
    """Return the bits of one number of a module's weight, with its share of the scales."""
    if module == EMBEDDING and kind in TABLE_KINDS:
        return int(TABLE_KINDS[kind].removeprefix("uint"))
    return KINDS[kind].bits_per_weight


def _logits(model: ir.Model, sequences: Sequences) -> Iterator[np.ndarray]:
    from modelc.reference.stream import StreamedReference

    return StreamedReference(model).logits_of(sequences)
