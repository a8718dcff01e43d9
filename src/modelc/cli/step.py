"""modelc step: one of the six named steps on files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from modelc.cli import options
from modelc.cli.render import print_json
from modelc.cli.takes_recipe import CALIBRATION, CUDA, NETWORK, QAIC, RecipeOptions, takes_recipe

# What a step on files makes is no bundle; its encodings are of graphs as well.
_WITHOUT: Final = (
    *("encodings", "format", "toolchain", "gguf"),
    *(*CALIBRATION, "verify_text", "keep_twins", *NETWORK, *QAIC, *CUDA),
)


@takes_recipe(without=_WITHOUT)
def step_command(
    chosen: RecipeOptions,
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
    encodings: Annotated[
        Path | None,
        typer.Option(
            help="AIMET's file, of the model or of the graphs, or a bundle's encodings.json, with "
            "whose weights.npz the scales of weights come too. Default: NAME.encodings beside "
            "each graph NAME.onnx, of which activations are taken; scales of weights are chosen."
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Run one named step of a Snapdragon compile on files."""
    from modelc.pipeline.single_step import StepRequest, run_step

    request = StepRequest(name, source, chosen.recipe(), tuple(files or ()), encodings, output)
    made = run_step(request)
    if json:
        print_json({"step": name, "files": [str(path) for path in made]})
        return
    for path in made:
        typer.echo(path)
