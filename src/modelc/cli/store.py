"""Commands about the store: cache list, prune, verify."""

from __future__ import annotations

from typing import Annotated

import typer

from modelc.cli import options
from modelc.cli.render import megabytes, print_json, print_table

app = typer.Typer(help="Look at, check or clean the store of finished steps.", no_args_is_help=True)


@app.command("list")
def list_command(json: options.Json = False) -> None:
    """List the results in the store, the most recently used first."""
    from modelc.pipeline.housekeeping import list_store
    from modelc.pipeline.store import Store

    store = Store()
    found = sorted(list_store(store), key=lambda entry: -entry.last_used)
    if json:
        print_json([vars(entry) for entry in found])
        return
    rows = [
        (e.key[:12], e.step, megabytes(e.size), round(e.seconds, 2), e.created, e.damage)
        for e in found
    ]
    print_table(str(store.root), ("key", "step", "size", "seconds", "made", "damage"), rows)
    typer.echo(f"{len(found)} results, {megabytes(sum(entry.size for entry in found))}")


@app.command("verify")
def verify_command(json: options.Json = False) -> None:
    """Check every file of the store against its SHA-256; exit 1 if one is damaged."""
    from modelc.errors import Damaged
    from modelc.pipeline.housekeeping import list_store, verify_store
    from modelc.pipeline.store import Store

    store = Store()
    checked = len(list_store(store))
    damaged = verify_store(store)
    if json:
        print_json({"checked": checked, "damaged": [vars(entry) for entry in damaged]})
    else:
        for entry in damaged:
            typer.echo(f"{entry.key[:12]} {entry.step}: {entry.damage}")
        typer.echo(f"{checked} results checked, {len(damaged)} damaged")
    if damaged:
        raise Damaged(
            f"{len(damaged)} results in the store are damaged",
            hint="nothing to do: a compile that needs one makes it again",
        )


@app.command("prune")
def prune_command(
    older_than_days: Annotated[
        float | None, typer.Option(min=0.0, help="Remove what was not used for so long.")
    ] = None,
    max_gb: Annotated[
        float | None, typer.Option(min=0.0, help="Remove the longest unused down to this size.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove everything.")] = False,
    json: options.Json = False,
) -> None:
    """Remove results from the store; what is in use stays."""
    from modelc.errors import BadInput
    from modelc.pipeline.housekeeping import prune_store
    from modelc.pipeline.store import Store

    if older_than_days is None and max_gb is None and not everything:
        raise BadInput("nothing says what to remove", hint="--older-than-days, --max-gb or --all")
    pruned = prune_store(
        Store(),
        older_than_s=None if older_than_days is None else older_than_days * 86400,
        max_bytes=None if max_gb is None else int(max_gb * 1e9),
        everything=everything,
    )
    if json:
        print_json(vars(pruned))
    else:
        typer.echo(f"removed {pruned.entries} results, {megabytes(pruned.size)}")
