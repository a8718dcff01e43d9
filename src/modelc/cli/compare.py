"""`modelc compare`: two bundles, schemes or recipes of one model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from modelc.cli import options
from modelc.cli.eval import Tokens, Window
from modelc.cli.evaluations import number
from modelc.cli.render import megabytes, print_json, print_table

Candidate = Annotated[
    str, typer.Argument(help="A bundle, a scheme's name, or a recipe's TOML file.")
]


def compare_command(
    first: Candidate,
    second: Candidate,
    source: Annotated[
        Path | None,
        typer.Option("--source", help="The model; schemes and recipes need it and --text."),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(help="UTF-8 text; bundles without: what they were verified with."),
    ] = None,
    tokens: Tokens = None,
    window: Window = None,
    modules: Annotated[int, typer.Option(min=0, help="How many modules to list.")] = 10,
    json: options.Json = False,
) -> None:
    """Compare what two candidates take, how close they are to the float model, and in which modules
    they differ most."""
    from modelc.api.compare import compare
    from modelc.cli.progress import watch

    with watch(quiet=json) as events:
        found = compare(
            first,
            second,
            text=text,
            source=source,
            window=window,
            max_tokens=tokens,
            events=events,
        )
    document = found.document(modules)
    if json:
        print_json(document)
        return
    sides = document["candidates"]
    rows = [(label, *(show(side) for side in sides)) for label, show in _ROWS]
    print_table("", ("", *(side["name"] for side in sides)), rows)
    if document["modules"]:
        differ = [(r["module"], r["first_db"], r["second_db"]) for r in document["modules"]]
        title = "modules that differ most (SQNR of their output, dB)"
        print_table(title, ("module", *(side["name"] for side in sides)), differ)


def _of_float(name: str, form: str) -> Any:
    def show(side: dict[str, Any]) -> str:
        return number(side["float"][name], form, "-") if "float" in side else "-"

    return show


_ROWS = (
    ("size", lambda side: megabytes(side["bytes"])),
    ("bits per weight", lambda side: number(side["bits_per_weight"], ".2f")),
    ("perplexity", lambda side: number(side["perplexity"], ".4f")),
    ("perplexity of float", _of_float("perplexity", ".4f")),
    ("KL divergence, nats", _of_float("kl_divergence", ".5f")),
    ("top-1 agreement", _of_float("top1_agreement", ".2%")),
    ("top-5 agreement", _of_float("top5_agreement", ".2%")),
    ("SQNR of logits, dB", _of_float("sqnr_db", ".1f")),
    ("tokens", lambda side: f"{side['tokens']:,}"),
)
