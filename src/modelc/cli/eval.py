"""`modelc eval`: what a bundle, or a scheme that was not compiled, is worth on a text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from modelc.cli import options
from modelc.cli.evaluations import show_evaluation, show_tensors
from modelc.cli.render import print_json
from modelc.cli.takes_recipe import CUDA, NETWORK, QAIC, RecipeOptions, takes_recipe

if TYPE_CHECKING:
    from modelc.pipeline.recipe import Recipe
    from modelc.verify.evaluate import Metric

# Options that only compiling has a use for.
ONLY_COMPILED: Final = (
    "ar", "splits", "attention", "format", "toolchain", "memory_limit", "verify_text", "keep_twins",
    *NETWORK, *QAIC, *CUDA,
)  # fmt: skip

BundleOrSource = Annotated[
    Path,
    typer.Argument(help="A bundle, a .gguf file or a Hugging Face folder.", show_default=False),
]
Text = Annotated[Path, typer.Option(help="UTF-8 text to measure on.")]
Tokens = Annotated[int | None, typer.Option(min=2, help="Use only the first tokens.")]
Window = Annotated[
    int | None,
    typer.Option(
        min=2,
        help="Tokens of a window, which the next overlaps by half; default: a bundle's context, "
        "of a source at most 512.",
    ),
]
SourceOfBundle = Annotated[
    Path | None, typer.Option("--source", help="The model that a bundle was made of.")
]


@takes_recipe(without=ONLY_COMPILED)
def eval_command(
    chosen: RecipeOptions,
    path: BundleOrSource,
    text: Text,
    tokens: Tokens = None,
    window: Window = None,
    source: SourceOfBundle = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="FILE.py:function(reference, measured, token_ids), your own; may be repeated."
        ),
    ] = None,
    worst: Annotated[
        int, typer.Option(min=0, help="List so many tensors of a source, worst first.")
    ] = 0,
    json: options.Json = False,
) -> None:
    """Measure perplexity on a text, and how far it is from the float model: of a bundle, or of a
    model under a scheme, without compiling it."""
    from modelc.bundle.manifest import is_bundle
    from modelc.verify.own_metric import load_metrics

    metrics = load_metrics(metric or ())
    if is_bundle(path):
        refuse_recipe(chosen)
        if worst:
            raise typer.BadParameter("--worst needs a source; see modelc debug for a bundle")
        document = _of_bundle(path, source, text, window, tokens, metrics, json)
    else:
        refuse_source(source)
        recipe = recipe_of_scheme(chosen)
        document = _of_scheme(path, recipe, text, window, tokens, metrics, worst, json)
    if json:
        print_json(document)
        return
    show_evaluation(document)
    if worst:
        show_tensors(f"{worst} worst tensors", document["tensors"])


def recipe_of_scheme(chosen: RecipeOptions) -> Recipe:
    """Return the recipe that was given, for a target that takes its scheme if it names none."""
    from modelc.pipeline.simulation_plan import settle_target

    given = {name: value for name, value in chosen.given.items() if value is not None}
    return replace(chosen, given=settle_target(chosen.file, given)).recipe()


def refuse_recipe(chosen: RecipeOptions) -> None:
    """Raise BadInput if there are options of a recipe for what has one already."""
    from modelc.errors import BadInput

    # A flag that was not set is False.
    given = [
        name for name, value in chosen.given.items() if value is not None and value is not False
    ]
    if given or chosen.file:
        named = f"--{(given or ['recipe'])[0].replace('_', '-')}"
        raise BadInput(
            f"a bundle is as it was compiled: no use for {named}",
            hint="leave it out, or give the model that the bundle was made of",
        )


def refuse_source(source: Path | None) -> None:
    """Raise BadInput if --source was given beside a source."""
    from modelc.errors import BadInput

    if source is not None:
        raise BadInput("--source is for a bundle: a model is its own source", hint="leave it out")


def _of_bundle(
    path: Path,
    source: Path | None,
    text: Path,
    window: int | None,
    tokens: int | None,
    metrics: Mapping[str, Metric],
    quiet: bool,
) -> dict[str, Any]:
    from modelc.api import Bundle
    from modelc.cli.progress import counter

    with Bundle.open(path) as opened, counter("eval", quiet=quiet) as progress:
        found = opened.evaluate(
            text,
            source=source,
            window=window,
            max_tokens=tokens,
            metrics=metrics,
            progress=progress,
        )
    return found.document()


def _of_scheme(
    path: Path,
    recipe: Recipe,
    text: Path,
    window: int | None,
    tokens: int | None,
    metrics: Mapping[str, Metric],
    worst: int,
    quiet: bool,
) -> dict[str, Any]:
    from modelc.api.evaluation import windows_of
    from modelc.cli.progress import watch
    from modelc.pipeline.evaluation import evaluate_simulated
    from modelc.pipeline.loss import tensor_losses
    from modelc.pipeline.simulation import simulate

    with watch(quiet=quiet) as events, simulate(path, recipe, events=events) as opened:
        windows = windows_of(opened, text, window, tokens)
        found = evaluate_simulated(opened, windows, metrics)
        document = {"quant": opened.job.scheme.name, **found.document()}
        if worst:
            losses = sorted(tensor_losses(opened, windows), key=lambda loss: loss.sqnr_db)
            document["tensors"] = [loss.document() for loss in losses[:worst]]
    return document
