"""What a scheme or a bundle is worth on a text, and how far it is from the float model there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelc.errors import BadInput, Where
from modelc.pipeline.evaluation import (
    DEFAULT_WINDOW,
    TextWindows,
    evaluate_simulated,
    read_windows,
)
from modelc.pipeline.events import Events, ignore
from modelc.pipeline.make_recipe import make_recipe
from modelc.pipeline.recipe import Recipe
from modelc.pipeline.simulation import Simulated, simulate
from modelc.pipeline.simulation_plan import settle_target
from modelc.pipeline.store import Store
from modelc.quant.overrides import EMBEDDING
from modelc.verify.evaluate import NO_METRICS, Evaluation, Metric, evaluate_windows

if TYPE_CHECKING:
    from modelc.api.bundle import Bundle

Progress = Callable[[int, int], None]


def evaluate(
    source: str | Path,
    text: str | Path,
    *,
    recipe: Recipe | str | Path | None = None,
    window: int | None = None,
    max_tokens: int | None = None,
    metrics: Mapping[str, Metric] = NO_METRICS,
    store: Store | None = None,
    events: Events = ignore,
    progress: Progress = lambda done, total: None,
    **options: Any,
) -> Evaluation:
    """Evaluate a scheme against the float model without compiling: rounded as the target stores it,
    run on the CPU.

    Args:
        source: a .gguf file or a Hugging Face folder.
        text: a UTF-8 file.
        recipe: a TOML file of options, which `options` override; or a recipe.
        window: tokens of a window, of which the next one overlaps half; at most 512 of the context
            by default.
        max_tokens: use only the first tokens.
        metrics: more of them by name.
        options: fields of `pipeline.recipe.Recipe` (quant, algorithms, overrides, ...). Without a
            target it is one that takes the scheme, without a scheme the float model.

    Raises:
        BadInput: the text is too short, or the recipe is not of this source.
    """
    with simulated(source, recipe, store=store, events=events, **options) as opened:
        windows = windows_of(opened, Path(text), window, max_tokens)
        return evaluate_simulated(opened, windows, metrics, progress=progress)


@contextmanager
def simulated(
    source: str | Path,
    recipe: Recipe | str | Path | None = None,
    *,
    store: Store | None = None,
    events: Events = ignore,
    **options: Any,
) -> Iterator[Simulated]:
    """Give a source and the same under a scheme; `recipe` and `options` as for `evaluate`."""
    if isinstance(recipe, Recipe):
        chosen = recipe
    else:
        file = Path(recipe) if recipe else None
        given = {name: value for name, value in options.items() if value is not None}
        chosen = make_recipe(file, settle_target(file, given))
    with simulate(Path(source), chosen, store=store, events=events) as opened:
        yield opened


def windows_of(
    opened: Simulated, text: Path, window: int | None, max_tokens: int | None
) -> TextWindows:
    """Cut a text for a source, by default into windows of `DEFAULT_WINDOW`."""
    length = min(opened.context_length, DEFAULT_WINDOW) if window is None else window
    return read_windows(opened.tokenizer, text, opened.context_length, length, max_tokens)


def evaluate_bundle(
    bundle: Bundle,
    text: Path,
    source: Path | None,
    window: int | None,
    max_tokens: int | None,
    metrics: Mapping[str, Metric],
    progress: Progress,
) -> Evaluation:
    """Measure a bundle's perplexity; with its source also how far it is from the float model.

    Raises:
        BadInput: the text is too short, metrics have nothing to compare with, or the source is
            another model.
    """
    windows = read_windows(bundle.tokenizer, text, bundle.context_length, window, max_tokens)
    measured = (bundle.logits(sequence) for sequence in windows.sequences)
    if source is None:
        if metrics:
            raise BadInput(
                "a metric compares with the float model, which is not at hand",
                hint="give --source MODEL",
            )
        return evaluate_windows(windows.token_ids, windows.parts, measured, progress=progress)
    length = bundle.context_length
    with simulated(source, target="cpu", quant="fp32", context_length=length) as opened:
        _check_same_model(bundle, opened, text, windows)
        reference = opened.float_logits(windows.sequences)
        return evaluate_windows(
            windows.token_ids, windows.parts, measured, reference, metrics, progress
        )


def _check_same_model(bundle: Bundle, opened: Simulated, text: Path, windows: TextWindows) -> None:
    vocabulary = int(bundle.manifest.settings["vocab_size"])
    same_tokens = opened.tokenizer.encode(text.read_text(encoding="utf-8"))
    if (
        opened.shapes[EMBEDDING][0] != vocabulary
        or tuple(same_tokens[: len(windows.token_ids)]) != windows.token_ids
    ):
        raise BadInput(
            f"the bundle was made of another model ({bundle.manifest.source.name})",
            where=Where(path=str(opened.job.source)),
            hint="give --source the model that was compiled",
        )
