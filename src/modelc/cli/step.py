"""modelc step: one of the six named steps on files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelc.cli import options
from modelc.cli.render import print_json


def step_command(
    name: Annotated[
        str,
        typer.Argument(
            help="prepare_exports, split_model, mha_to_sha, quantize, convert, "
            "generate_context_binary; or float_graphs, which QAIRT's own converter takes."
        ),
    ],
    source: options.Source,
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="The graphs that the step before made.", show_default=False),
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for results.")] = Path(),
    target: options.Target = None,
    quant: options.Quant = None,
    context_length: options.ContextLength = None,
    ar: options.Ar = None,
    splits: options.Splits = None,
    attention: options.Attention = None,
    kv_bits: options.KvBits = None,
    override: options.Override = None,
    encodings: Annotated[
        Path | None,
        typer.Option(
            help="AIMET's file, of the model or of the graphs, or a bundle's encodings.json, with "
            "whose weights.npz the scales of weights come too. Default: NAME.encodings beside "
            "each graph NAME.onnx, of which activations are taken; scales of weights are chosen."
        ),
    ] = None,
    memory_limit: options.MemoryLimit = None,
    recipe: options.RecipeFile = None,
    json: options.Json = False,
) -> None:
    """Run one named step of a Snapdragon compile on files."""
    from modelc.cli.build import make_recipe_of
    from modelc.pipeline.single_step import StepRequest, run_step

    chosen = make_recipe_of(
        recipe,
        target=target,
        quant=quant,
        context_length=context_length,
        ar=ar,
        splits=splits,
        attention=attention,
        kv_bits=kv_bits,
        overrides=override,
        memory_limit=memory_limit,
    )
    request = StepRequest(name, source, chosen, tuple(files or ()), encodings, output)
    made = run_step(request)
    if json:
        print_json({"step": name, "files": [str(path) for path in made]})
        return
    for path in made:
        typer.echo(path)
