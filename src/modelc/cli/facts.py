"""Commands that only look: inspect, targets, doctor."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from modelc.cli import network_options, options
from modelc.cli.render import print_json, print_table


def inspect_command(
    path: Annotated[Path, typer.Argument(help="A model, an ONNX file, a binary or a bundle.")],
    target: Annotated[
        str | None,
        typer.Option(
            "--target", "-t", help="Say of each operator whether this chipset takes it, and how."
        ),
    ] = None,
    dim: network_options.Dim = None,
    quant: Annotated[
        str | None, typer.Option(help="With --target: the scheme to be compiled in.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Tell what a file is and holds; with --target, what becomes of its operators."""
    if target is not None:
        _show_support(path, target, dim or [], quant, json)
        return
    if dim or quant:
        raise typer.BadParameter("--dim and --quant go with --target")
    from modelc.pipeline.inspect import inspect_path
    from modelc.pipeline.step import flatten

    found = inspect_path(path)
    if json:
        print_json(found.document())
        return
    facts = found.facts if found.shown is None else found.shown
    print_table(found.kind, ("", ""), [(k, _short(v)) for k, v in flatten(facts).items()])
    for title, rows in found.tables.items():
        if rows:
            print_table(title, list(rows[0]), [[_short(v) for v in row.values()] for row in rows])


def _show_support(path: Path, target: str, dims: list[str], quant: str | None, json: bool) -> None:
    from modelc.cli.progress import watch
    from modelc.cli.takes_recipe import RecipeOptions
    from modelc.errors import BadInput, Where
    from modelc.pipeline.network.job import is_network
    from modelc.pipeline.network.support import document, operator_support

    if not is_network(path):
        raise BadInput(
            "--target is for models that are no decoders",
            where=Where(path=str(path)),
            hint="give an .onnx or a .pt2 file, FILE.py:FUNCTION or an encoder's folder",
        )
    given = {"target": target, "dim": dims or None, "quant": quant}
    recipe = RecipeOptions(None, given).recipe()
    with watch(quiet=json) as events:
        rows = operator_support(path, recipe, events=events)
    if json:
        print_json(document(rows))
        return
    print_table(
        f"on {target}",
        ("operator", "module", "", "as", "why"),
        [(r.op_type, r.module, r.becomes, ", ".join(r.into), r.reason) for r in rows],
    )
    counts = Counter(row.becomes for row in rows)
    typer.echo(", ".join(f"{count} {becomes}" for becomes, count in counts.most_common()))
    for hint in dict.fromkeys(row.hint for row in rows if row.hint):
        typer.echo(f"hint: {hint}")


def targets_command(json: options.Json = False) -> None:
    """List the targets: the CPU and every chipset, also those whose HTP is too old to compile
    for. And the quantisation schemes that they take, and the algorithms for them."""
    from modelc.quant.algorithms.table import ALGORITHMS
    from modelc.quant.aliases import names_of
    from modelc.quant.schemes import SCHEMES
    from modelc.targets.find import all_targets

    rows = [target.document() for target in all_targets()]
    for row in rows:
        row["schemes"] = [s.name for s in SCHEMES.values() if row["family"] in s.families]
    if json:
        print_json(rows)
        return
    columns = {
        "name": "name",
        "soc_model": "SoC",
        "htp_arch": "HTP",
        "vtcm_mb": "VTCM MB",
        "fp16": "fp16",
        "weight_sharing": "shares weights",
        "marketing_name": "marketing name",
    }
    print_table(
        "",
        ("compiles", *columns.values(), "aliases"),
        [
            [target.compiles, *(row[column] for column in columns), ", ".join(row["aliases"])]
            for target, row in zip(all_targets(), rows, strict=True)
        ],
    )
    print_table(
        "schemes",
        ("--quant", "weights", "head", "activations", "KV cache", "targets", "MLC's names"),
        [
            [
                scheme.name,
                str(scheme.kinds[scheme.weights]) if scheme.has_kinds else scheme.weights,
                scheme.head if scheme.has_kinds else "",
                scheme.activations,
                scheme.kv,
                ", ".join(scheme.families),
                ", ".join(names_of(scheme.name)),
            ]
            for scheme in SCHEMES.values()
        ],
    )
    print_table(
        "algorithms",
        ("--algorithms", "what it is", "what it does"),
        [(name, row.stage, row.about) for name, row in ALGORITHMS.items()],
    )


def doctor_command(json: options.Json = False) -> None:
    """Say what this machine can do, and what is missing."""
    from modelc.pipeline.doctor import diagnose

    found = diagnose()
    if json:
        print_json([vars(row) for row in found])
        return
    print_table("", ("", "state", "detail"), [(d.name, d.state, d.detail) for d in found])


def _short(value: Any, limit: int = 120) -> Any:
    """Shorten what would flood a terminal; `--json` has all of it."""
    if isinstance(value, list) and len(value) > 8:
        return f"[{', '.join(map(str, value[:8]))}, ... {len(value)} in all]"
    if isinstance(value, str) and len(value) > limit:
        return f"{value[:limit]}... ({len(value)} characters)"
    return value
