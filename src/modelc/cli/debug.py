"""`modelc debug`: where the loss of a scheme comes from."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from modelc.cli import options
from modelc.cli.eval import (
    ONLY_COMPILED,
    BundleOrSource,
    SourceOfBundle,
    Window,
    recipe_of_scheme,
    refuse_recipe,
    refuse_source,
)
from modelc.cli.evaluations import number, show_evaluation, show_tensors
from modelc.cli.network_debug import debug_network
from modelc.cli.render import megabytes, print_json, print_table
from modelc.cli.takes_recipe import NETWORK, RecipeOptions, takes_recipe


@takes_recipe(without=tuple(set(ONLY_COMPILED) - set(NETWORK)))
def debug_command(
    chosen: RecipeOptions,
    path: BundleOrSource,
    source: SourceOfBundle = None,
    text: Annotated[
        Path | None, typer.Option(help="UTF-8 text; default: the one that modelc carries.")
    ] = None,
    tokens: Annotated[int, typer.Option(min=2, help="Use only so many tokens.")] = 512,
    window: Window = None,
    tensors: Annotated[int, typer.Option(min=0, help="How many tensors to list.")] = 15,
    remedies: Annotated[
        int, typer.Option(min=0, help="How many modules to try with more bits.")
    ] = 4,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Draw all tensors into this SVG.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Say in which tensors a scheme loses what (their own part set apart from what was lost before
    them), and what raising modules to more bits would gain."""
    from modelc.pipeline.network.job import is_network

    if is_network(path):
        debug_network(path, chosen.recipe(), tensors, json)
        return
    from modelc.api.debug import debug
    from modelc.bundle.manifest import is_bundle
    from modelc.cli.progress import watch
    from modelc.pipeline.loss_plot import plot_losses

    recipe = None
    if is_bundle(path):
        refuse_recipe(chosen)
    else:
        refuse_source(source)
        recipe = recipe_of_scheme(chosen)
    if output is not None:
        _write(output, "")  # now, rather than after the work, if it can't be written
    with watch(quiet=json) as events:
        found = debug(
            path,
            source=source,
            text=text,
            recipe=recipe,
            window=window,
            max_tokens=tokens,
            remedies=remedies,
            events=events,
        )
    if output is not None:
        _write(output, plot_losses(found.losses, f"{path.name} as {found.quant}"))
    document = found.document()
    if json:
        print_json(document)
        return
    show_evaluation(document)
    if tensors:
        show_tensors("tensors in which most is lost", document["tensors"][:tensors])
    _show_remedies(document)


def _show_remedies(document: Mapping[str, Any]) -> None:
    before = document["float"]["kl_divergence"]
    if not document["remedies"]:
        typer.echo("no module would gain by a kind with more bits")
        return
    rows = [
        (
            " ".join(
                f"--override {shlex.quote(_pattern(m, k))}" for m, k in row["overrides"].items()
            ),
            f"+{megabytes(row['added_bytes'])}",
            number(row["perplexity"], ".4f"),
            f"{number(before, '.5f')} -> {number(row['kl_divergence'], '.5f')}",
        )
        for row in document["remedies"]
    ]
    print_table("raised to more bits", ("", "weights", "perplexity", "KL divergence"), rows)


def _pattern(module: str, kind: str) -> str:
    return f"{module.removeprefix('model.')}={kind}"


def _write(path: Path, text: str) -> None:
    from modelc.errors import BadInput, Where

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(
            f"the picture can't be written: {error.strerror}", where=Where(path=str(path))
        ) from error
