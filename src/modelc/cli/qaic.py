"""Commands for Cloud AI 100 alone: the vendor's compiler on a prepared bundle, MLPerf's presets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelc.cli import options
from modelc.cli.render import print_json, print_table

app = typer.Typer(
    name="qaic",
    help="Cloud AI 100: its compiler on a prepared bundle, and what its benchmarks need.",
    no_args_is_help=True,
)


@app.command("compile")
def compile_command(bundle: options.BundlePath, json: options.Json = False) -> None:
    """Run the vendor's compiler on a bundle that was prepared without it."""
    from modelc.pipeline.card_compile import compile_bundle

    program = compile_bundle(bundle)
    if json:
        print_json({"bundle": str(bundle), "program": str(program)})
        return
    typer.echo(f"compiled: {program}")


@app.command("mlperf")
def mlperf_command(
    model: Annotated[Path | None, typer.Argument(help="The benchmark's model.")] = None,
    tags: Annotated[
        str, typer.Option(help="Model, scenario, nsp.N, bs.N, pc.X: resnet50,offline,nsp.14.")
    ] = "",
    calibrate: Annotated[bool, typer.Option(help="The command that calibrates.")] = False,
    profile: Annotated[Path | None, typer.Option(help="What calibration wrote.")] = None,
    input_list: Annotated[Path | None, typer.Option(help="The list of calibration inputs.")] = None,
    node_precision_info: Annotated[
        Path | None, typer.Option(help="Retinanet's node precision file.")
    ] = None,
    batch_inputs: Annotated[
        bool,
        typer.Option(
            "--batch-inputs",
            help="With --calibrate: write the list's inputs as batches into this folder.",
        ),
    ] = False,
    release: Annotated[str, typer.Option(help="Round of MLPerf Inference: 3.1 or 4.0.")] = "4.0",
    list_all: Annotated[bool, typer.Option("--list", help="Show every combination.")] = False,
    json: options.Json = False,
) -> None:
    """Print the command that compiles or calibrates a benchmark's model for the card."""
    from modelc.errors import BadInput
    from modelc.targets.qaic import mlperf
    from modelc.targets.qaic.mlperf_profile import retinanet_scales
    from modelc.targets.qaic.mlperf_tags import read_tags, variations

    if list_all:
        _show_variations(variations(release), json)
        return
    if model is None or not tags:
        raise BadInput("name the model and --tags", hint="--list shows every combination")
    if batch_inputs:
        _write_batches(tags, release, calibrate, input_list)
    command = mlperf.mlperf_command(
        "calibrate" if calibrate else "compile",
        tags,
        model=model,
        profile=profile,
        input_list=input_list,
        node_precision_info=node_precision_info,
        release=release,
    )
    if not json:
        typer.echo(command)
        return
    told: dict[str, str] = {}
    if not calibrate:
        told = mlperf.environment(
            tags, model=model, work_dir=Path.cwd(), profile=profile, command=command,
            release=release,
        )  # fmt: skip
        if profile is not None and read_tags(tags, release=release).model == "retinanet":
            scales = {name: str(value) for name, value in retinanet_scales(profile).items()}
            told |= mlperf.prefixed(scales)
    print_json({"command": command, "environment": told})


def _write_batches(tags: str, release: str, calibrate: bool, input_list: Path | None) -> None:
    from modelc.errors import BadInput
    from modelc.targets.qaic.mlperf_inputs import write_batches
    from modelc.targets.qaic.mlperf_tags import read_tags

    batch = read_tags(tags, release=release).batch
    if not calibrate or input_list is None or not batch:
        raise BadInput(
            "--batch-inputs writes what calibration reads",
            hint="give --calibrate, --input-list and bs.N in the tags with it",
        )
    write_batches(input_list, int(batch), Path.cwd())


def _show_variations(found: list[str], json: bool) -> None:
    if json:
        print_json(found)
        return
    print_table("", ("tags",), [[tags] for tags in found])
