"""The command that tells what each matrix of a model costs by its kind."""

from __future__ import annotations

import typer

from modelc.cli import options
from modelc.cli.render import megabytes, print_json, print_table
from modelc.cli.takes_recipe import CUDA, NETWORK, QAIC, RecipeOptions, takes_recipe

_OF_NO_USE = (
    *("quant", "budget", "algorithms", "algorithm_option", "encodings", "verify_text"),
    *("keep_twins", "ar", "splits", "attention", "kv_bits", "memory_limit", "gguf", "toolchain"),
    *NETWORK,
    *QAIC,
    *CUDA,
)


@takes_recipe(without=_OF_NO_USE)
def sensitivity_command(
    chosen: RecipeOptions, source: options.Source, json: options.Json = False
) -> None:
    """Tell what each matrix costs in each kind that a target takes: what --quant auto goes by."""
    from modelc.cli.progress import watch
    from modelc.pipeline.sensitivity_table import measure_source

    with watch(quiet=json) as events:
        rows = measure_source(source, chosen.recipe(), events=events)
    if json:
        print_json([vars(row) for row in rows])
        return
    print_table(
        "",
        ("module", "kind", "KL divergence", "size", "saved"),
        [
            (row.module, row.kind, row.kl_divergence, megabytes(row.size), megabytes(row.saved))
            for row in rows
        ],
    )
    typer.echo(
        "KL divergence of the logits, mean nats per token, if this matrix alone is of a kind"
    )
