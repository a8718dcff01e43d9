"""Commands that take a source: compile, explain, estimate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelc.cli import options
from modelc.cli.render import megabytes, print_json, print_table

if TYPE_CHECKING:
    from modelc.pipeline.compile import CompileReport
    from modelc.pipeline.plan import Plan
    from modelc.pipeline.recipe import Recipe


def compile_command(
    source: options.Source,
    target: options.Target = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The bundle; default: MODEL-TARGET-SCHEME.modelc."),
    ] = None,
    quant: options.Quant = None,
    context_length: options.ContextLength = None,
    ar: options.Ar = None,
    splits: options.Splits = None,
    gguf: options.Gguf = None,
    calibration_text: options.CalibrationText = None,
    verify_text: options.VerifyText = None,
    keep_twins: Annotated[
        bool, typer.Option("--keep-twins", help="Put the simulator's binaries into the bundle.")
    ] = False,
    recipe: options.RecipeFile = None,
    dump_ir: Annotated[
        Path | None, typer.Option(help="Write each pass's graph as text into this folder.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the steps, run none.")] = False,
    json: options.Json = False,
) -> None:
    """Compile a model for a target, verify it, and write a bundle."""
    from modelc.cli.progress import watch
    from modelc.errors import BelowThreshold
    from modelc.pipeline.compile import CompileReport, compile_source, plan_source

    chosen = _recipe(
        recipe,
        target=target,
        quant=quant,
        context_length=context_length,
        ar=ar,
        splits=splits,
        gguf=gguf,
        calibration_text=calibration_text,
        verify_text=verify_text,
        keep_twins=keep_twins or None,
    )
    if dry_run:
        _show_plan(plan_source(source, chosen), json)
        return
    try:
        with watch(quiet=json) as events:
            report = compile_source(source, chosen, output, events=events, dump_ir=dump_ir)
    except BelowThreshold as error:
        assert isinstance(error.report, CompileReport)
        _show_report(error.report, json)
        raise
    _show_report(report, json)


def explain_command(
    source: options.Source,
    target: options.Target = None,
    quant: options.Quant = None,
    context_length: options.ContextLength = None,
    ar: options.Ar = None,
    splits: options.Splits = None,
    gguf: options.Gguf = None,
    calibration_text: options.CalibrationText = None,
    verify_text: options.VerifyText = None,
    recipe: options.RecipeFile = None,
    json: options.Json = False,
) -> None:
    """Say which steps a compile would run, and why."""
    from modelc.pipeline.compile import explain_source

    chosen = _recipe(
        recipe,
        target=target,
        quant=quant,
        context_length=context_length,
        ar=ar,
        splits=splits,
        gguf=gguf,
        calibration_text=calibration_text,
        verify_text=verify_text,
    )
    reasons = explain_source(source, chosen)
    if json:
        print_json([{"step": r.step, "why": r.why, "details": list(r.details)} for r in reasons])
        return
    print_table(
        "", ("step", "why", "details"), [(r.step, r.why, "\n".join(r.details)) for r in reasons]
    )


def estimate_command(
    source: options.Source,
    target: options.Target = None,
    quant: options.Quant = None,
    context_length: options.ContextLength = None,
    ar: options.Ar = None,
    recipe: options.RecipeFile = None,
    json: options.Json = False,
) -> None:
    """Say how much memory a model would take on a target, without compiling it."""
    from modelc.pipeline.estimate import estimate_source

    chosen = _recipe(recipe, target=target, quant=quant, context_length=context_length, ar=ar)
    estimate = estimate_source(source, chosen)
    if json:
        print_json(estimate.document())
        return
    rows = [
        (part.name, *map(megabytes, (part.weights, part.kv_cache, part.activations, part.total)))
        for part in estimate.parts
    ]
    print_table(estimate.title, ("part", "weights", "KV cache", "activations", "total"), rows)
    typer.echo(f"KV cache: {megabytes(estimate.kv_per_token)} per token")
    typer.echo(
        f"{'fits' if estimate.fits else 'does not fit'}: {megabytes(estimate.largest)} of "
        f"{megabytes(estimate.limit)} in the largest part"
    )


def _recipe(path: Path | None, **given: Any) -> Recipe:
    from modelc.pipeline.recipe import make_recipe

    return make_recipe(path, {name: value for name, value in given.items() if value is not None})


def _show_plan(plan: Plan, json: bool) -> None:
    from modelc.pipeline.plans import describe
    from modelc.pipeline.step import flatten

    steps = describe(plan)
    if json:
        print_json(steps)
        return
    rows = [
        (
            step["name"],
            ", ".join(step["inputs"]),
            ", ".join(step["reads"]),
            ", ".join(f"{k}={v}" for k, v in flatten(step["options"]).items() if v is not None),
        )
        for step in steps
    ]
    print_table("", ("step", "inputs", "reads", "options"), rows)


def _show_report(report: CompileReport, json: bool) -> None:
    from modelc.cli.bundles import show_verification

    if json:
        print_json(report.document())
        return
    rows = [(s.name, s.status, round(s.seconds, 2), round(s.peak_mb)) for s in report.steps]
    print_table("", ("step", "", "seconds", "peak MB"), rows)
    show_verification(report.verification)
    if report.bundle:
        typer.echo(f"bundle: {report.bundle} ({report.seconds:.1f} s)")
