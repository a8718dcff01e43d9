"""Commands that take a source: compile, explain, estimate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from modelc.cli import options
from modelc.cli.render import megabytes, print_json, print_table
from modelc.cli.takes_recipe import CALIBRATION, NETWORK, RecipeOptions, takes_recipe

if TYPE_CHECKING:
    from modelc.pipeline.compile import CompileReport
    from modelc.pipeline.estimate import PartEstimate

SHOWN: Final = 4  # names in one cell of a table


@takes_recipe()
def compile_command(
    chosen: RecipeOptions,
    source: options.Source,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The bundle; default: MODEL-TARGET-SCHEME.modelc."),
    ] = None,
    dump_ir: Annotated[
        Path | None, typer.Option(help="Write each pass's graph as text into this folder.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the steps, run none.")] = False,
    json: options.Json = False,
) -> None:
    """Compile a model for a target, verify it, and write a bundle."""
    from modelc.cli.progress import watch
    from modelc.errors import BelowThreshold, Missing
    from modelc.pipeline.compile import CompileReport, compile_source, describe_source

    recipe = chosen.recipe()
    if dry_run:
        _show_plan(describe_source(source, recipe), json)
        return
    try:
        with watch(quiet=json) as events:
            report = compile_source(source, recipe, output, events=events, dump_ir=dump_ir)
    except (BelowThreshold, Missing) as error:
        if isinstance(error.report, CompileReport):  # none if it ended before
            _show_report(error.report, json)
        raise
    _show_report(report, json)


@takes_recipe()
def explain_command(
    chosen: RecipeOptions, source: options.Source, json: options.Json = False
) -> None:
    """Say which steps a compile would run, and why."""
    from modelc.pipeline.compile import explain_source

    reasons = explain_source(source, chosen.recipe())
    if json:
        print_json([{"step": r.step, "why": r.why, "details": list(r.details)} for r in reasons])
        return
    print_table(
        "", ("step", "why", "details"), [(r.step, r.why, "\n".join(r.details)) for r in reasons]
    )


@takes_recipe(without=(*CALIBRATION, *NETWORK, "verify_text", "keep_twins"))
def estimate_command(
    chosen: RecipeOptions, source: options.Source, json: options.Json = False
) -> None:
    """Say how much memory a model would take on a target, without compiling it."""
    from modelc.pipeline.estimate import estimate_source

    estimate = estimate_source(source, chosen.recipe())
    if json:
        print_json(estimate.document())
        return
    rows = [
        (part.name, part.holds, *map(megabytes, _sizes(part)), megabytes(part.total))
        for part in estimate.parts
    ]
    sizes = ("weights", "KV cache", "activations", "to compile")
    print_table(estimate.title, ("part", "", *sizes, "total"), rows)
    if estimate.why:
        typer.echo(f"{len(rows)} parts: {estimate.why}")
    typer.echo(f"KV cache: {megabytes(estimate.kv_per_token)} per token")
    typer.echo(
        f"{'fits' if estimate.fits else 'does not fit'}: {megabytes(estimate.largest)} of "
        f"{megabytes(estimate.limit)} in the largest part"
    )


def _sizes(part: PartEstimate) -> tuple[int, ...]:
    return part.weights, part.kv_cache, part.activations, part.host


def _show_plan(plan: Mapping[str, Any], json: bool) -> None:
    if json:
        print_json(plan)
        return
    if plan["stages"]:
        stages = [
            (row["stage"], row["runs"], row["per"], _files(row["takes"]), _files(row["makes"]))
            for row in plan["stages"]
        ]
        print_table("", ("named step", "runs", "one per", "takes", "makes"), stages)
        typer.echo(plan["order"])
    if rows := plan.get("specializations"):
        names = [*dict.fromkeys(name for row in rows for name in row)]
        cells = [[row.get(name) for name in names] for row in rows]
        print_table("specialisations", names, cells)
    rows = [
        (
            step["name"],
            _listed((*step["reads"], *step["inputs"])),
            ", ".join(f"{k}={v}" for k, v in step["options"].items() if _is_short(v)),
        )
        for step in plan["steps"]
    ]
    print_table("", ("step", "reads", "options"), rows)


def _files(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


def _listed(names: Sequence[str]) -> str:
    """Name a few; of many, the first and the last."""
    return ", ".join(names if len(names) <= SHOWN else (names[0], "...", names[-1]))


def _is_short(value: Any) -> bool:
    return isinstance(value, str | int | float) and value != ""


def _show_report(report: CompileReport, json: bool) -> None:
    from modelc.cli.bundles import show_verification
    from modelc.pipeline.report import searched

    if json:
        print_json(report.document())
        return
    rows = [(s.name, s.status, round(s.seconds, 2), round(s.peak_mb)) for s in report.steps]
    print_table("", ("step", "", "seconds", "peak MB"), rows)
    if report.search:
        typer.echo(searched(report.search))
    show_verification(report.verification)
    if report.bundle:
        took = f"{report.seconds:.1f} s, {report.peak_mb:,.0f} MB at the peak"
        typer.echo(f"bundle: {report.bundle} ({took})")
