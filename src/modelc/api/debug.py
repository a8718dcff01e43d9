"""Where a scheme's loss comes from, and what would bring most of it back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelc.api.evaluation import simulated, windows_of
from modelc.bundle.manifest import is_bundle, load_manifest
from modelc.errors import BadInput, Where
from modelc.pipeline.evaluation import evaluate_simulated
from modelc.pipeline.events import Events, ignore
from modelc.pipeline.job import VERIFY_TEXT
from modelc.pipeline.loss import TensorLoss, tensor_losses
from modelc.pipeline.plans import RECIPE
from modelc.pipeline.recipe import Recipe
from modelc.pipeline.remedy import Remedy, measure_remedies
from modelc.pipeline.sources import Sources
from modelc.pipeline.step import SOURCE
from modelc.pipeline.store import Store
from modelc.verify.evaluate import Evaluation


@dataclass(frozen=True)
class Diagnosis:
    """What `modelc debug` found.

    Attributes:
        evaluation: of the scheme as it is.
        losses: of every rounded tensor, those first in which most is lost.
        remedies: modules raised to more bits, those first that gain most; the last is all of them.
    """

    quant: str
    evaluation: Evaluation
    losses: tuple[TensorLoss, ...]
    remedies: tuple[Remedy, ...]

    def document(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "quant": self.quant,
            **self.evaluation.document(),
            "tensors": [loss.document() for loss in self.losses],
            "remedies": [remedy.document() for remedy in self.remedies],
        }


def debug(
    path: str | Path,
    *,
    source: str | Path | None = None,
    text: str | Path | None = None,
    recipe: Recipe | str | Path | None = None,
    window: int | None = None,
    max_tokens: int | None = 512,
    remedies: int = 4,
    store: Store | None = None,
    events: Events = ignore,
    progress: Callable[[int, int], None] = lambda done, total: None,
    **options: Any,
) -> Diagnosis:
    """Run the float and the rounded model side by side, and try what would bring them closer.

    Args:
        path: a source, with a recipe or `options`; or a bundle, whose recipe it is then.
        source: the model that the bundle was made of.
        text: a UTF-8 file; by default the one that the recipe verifies on.
        remedies: how many modules to raise to more bits.

    Raises:
        BadInput: a bundle without its source; or as `evaluate`.
    """
    store = store or Store()
    model = Path(path)
    if is_bundle(model):
        recipe, model = model / RECIPE, _source_of(model, source, store)
    with simulated(model, recipe, store=store, events=events, **options) as opened:
        read = Path(text) if text else opened.job.sources[VERIFY_TEXT]
        windows = windows_of(opened, read, window, max_tokens)
        evaluation = evaluate_simulated(opened, windows)
        losses = tensor_losses(opened, windows, progress)
        tried = measure_remedies(opened, windows, losses, remedies, store, events)
        quant = opened.job.scheme.name
    return Diagnosis(quant, evaluation, tuple(losses), tuple(tried))


def _source_of(bundle: Path, source: str | Path | None, store: Store) -> Path:
    made_of = load_manifest(bundle).source
    if source is None:
        raise BadInput(
            f"a bundle does not carry the float model, {made_of.name}, to be held against",
            hint="give --source MODEL",
        )
    if Sources(store, {SOURCE: Path(source)}).digests(SOURCE) != dict(made_of.sha256):
        raise BadInput(
            f"the bundle was made of another model ({made_of.name})",
            where=Where(path=str(source)),
            hint="give --source the model that was compiled",
        )
    return Path(source)
