"""The command that tunes kernels on a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelc.cli import options
from modelc.cli.render import print_json, print_table
from modelc.cli.takes_recipe import CALIBRATION, NETWORK, QAIC, RecipeOptions, takes_recipe

if TYPE_CHECKING:
    from modelc.pipeline.tune import ToTune
    from modelc.targets.cuda.tune import Tuned


@takes_recipe(without=(*CALIBRATION, *NETWORK, *QAIC, "tiles"))
def tune_command(
    chosen: RecipeOptions,
    source: Annotated[
        Path, typer.Argument(help="A model that compile takes, or a bundle for CUDA.")
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="The table; rows are added to one that there is."),
    ] = Path("tiles.json"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the tiles that would be tried, on any machine.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Measure how each kernel's work is best divided, on a GPU of this machine."""
    from modelc.pipeline.tune import arch_here, tune_all

    found = _found(chosen, source)
    if dry_run:
        _show_candidates(found, json)
        return
    arch = arch_here(found.arches)
    tuned = tune_all(found, output, arch=arch, tell=_tell)
    if json:
        print_json({"table": str(output), "kernels": [_document(one) for one in tuned]})
        return
    _show(tuned)
    typer.echo(f"table: {output}")


def _found(chosen: RecipeOptions, source: Path) -> ToTune:
    from modelc.errors import BadInput
    from modelc.pipeline.tune import is_bundle, tune_bundle, tune_source

    if not is_bundle(source):
        return tune_source(source, chosen.recipe())
    given = [name for name, value in chosen.given.items() if value not in (None, False)]
    if given or chosen.file is not None:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given) or "--recipe"
        raise BadInput(f"a bundle has its recipe already: no use for {names}")
    return tune_bundle(source)


def _show_candidates(found: ToTune, json: bool) -> None:
    every = [(arch, subject) for arch in found.arches for subject in found.subjects(arch)]
    if json:
        print_json(
            [
                {
                    "arch": arch,
                    "kernel": subject.default.kernel,
                    "constants": dict(subject.default.constants),
                    "functions": list(subject.functions),
                    "tiles": [
                        {
                            "tile": dict(one.tile.values),
                            "warps": one.tile.warps,
                            "stages": one.tile.stages,
                        }
                        for one in subject.tiles
                    ],
                }
                for arch, subject in every
            ]
        )
        return
    rows = [
        (
            f"sm{arch}",
            subject.default.kernel,
            _sizes(dict(subject.default.constants)),
            ", ".join(subject.functions),
            len(subject.tiles),
        )
        for arch, subject in every
    ]
    print_table("", ("for", "kernel", "constants", "launched by", "tiles"), rows)


def _tell(done: int, count: int, tuned: Tuned) -> None:
    row = tuned.row
    told = "not measured"
    if row is not None:
        told = f"{row.default_microseconds:.1f} -> {row.microseconds:.1f} us"
    typer.echo(f"{done}/{count} {tuned.subject.default.kernel}: {told}", err=True)


def _document(tuned: Tuned) -> dict[str, Any]:
    from dataclasses import asdict

    row = asdict(tuned.row) if tuned.row is not None else None
    return {"kernel": tuned.subject.default.kernel, "row": row, "dropped": tuned.dropped}


def _show(tuned: list[Tuned]) -> None:
    from modelc.targets.cuda.tune import speedup

    rows = [
        (
            one.row.kernel,
            _sizes(dict(one.row.constants)),
            one.row.default_microseconds,
            one.row.microseconds,
            ", ".join(f"{count} {reason}" for reason, count in one.dropped.items()),
        )
        for one in tuned
        if one.row is not None
    ]
    print_table("", ("kernel", "constants", "default us", "tuned us", "dropped"), rows)
    typer.echo(f"{speedup(tuned):.2f} times as fast, as a geometric mean over kernels")


def _sizes(constants: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in constants.items())
