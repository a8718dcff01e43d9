"""How evaluations and losses are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import typer

from modelc.cli.render import print_table


def show_evaluation(document: Mapping[str, Any]) -> None:
    """Print an evaluation's JSON form."""
    perplexity = number(document["perplexity"], ".4f")
    typer.echo(f"perplexity {perplexity} over {document['tokens']:,} tokens")
    distance = document.get("float")
    if distance is None:
        return
    rows = [
        ("perplexity of the float model", number(distance["perplexity"], ".4f")),
        ("KL divergence, nats", number(distance["kl_divergence"], ".5f")),
        ("top-1 agreement", number(distance["top1_agreement"], ".2%")),
        ("top-5 agreement", number(distance["top5_agreement"], ".2%")),
        ("SQNR of logits, dB", number(distance["sqnr_db"], ".1f", "exact")),
        *((name, number(value, ".6g")) for name, value in distance["metrics"].items()),
    ]
    print_table("", ("against the float model", ""), rows)


def show_tensors(title: str, tensors: Sequence[Mapping[str, Any]]) -> None:
    """Print tensors' losses in their JSON form."""
    from modelc.pipeline.loss import sparkline

    rows = [
        (
            row["tensor"],
            *(number(row[name], ".1f", "-") for name in _RATIOS),
            *(number(end, ".4g") for end in row["range"]),
            sparkline(tuple(row["histogram"])),
        )
        for row in tensors
    ]
    ratios = ("SQNR dB", "inherited", "lost here", "by weights")
    print_table(title, ("tensor", *ratios, "from", "to", "values (bars are logarithmic)"), rows)


_RATIOS: Final = ("sqnr_db", "inherited_db", "injected_db", "by_weights_db")


def number(value: float | None, form: str, otherwise: str = "not finite") -> str:
    """Return a number of a JSON document, which is null where it is not finite."""
    return otherwise if value is None else format(value, form)
