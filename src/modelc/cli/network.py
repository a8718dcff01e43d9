"""Commands for models that are no decoders: profile, compile-qnn; and what `run` does for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelc.cli import options
from modelc.cli.render import megabytes, print_json, print_table

if TYPE_CHECKING:
    from modelc.api.network import NetworkBundle

Inputs = Annotated[
    Path | None,
    typer.Option(help="Samples: .npz, an input list, a folder of images, FILE.py:function."),
]


def run_network(bundle: NetworkBundle, inputs: Path, output: Path | None, json: bool) -> None:
    """Run a network's bundle on samples; outputs go to a .npz, several samples one after the other
    along a new first axis."""
    import numpy as np

    from modelc.errors import BadInput, Where
    from modelc.quant.feeds import open_feeds
    from modelc.quant.feeds.inputs import InputSpec

    specs = [
        InputSpec(row["name"], np.dtype(row["dtype"]), tuple(row["shape"])) for row in bundle.inputs
    ]
    made = bundle.run(open_feeds(inputs, specs))
    if not made:
        raise BadInput("there are no samples to run", where=Where(path=str(inputs)))
    single = len(made) == 1
    arrays = {
        name: made[0][name] if single else np.stack([row[name] for row in made]) for name in made[0]
    }
    if output is not None:
        try:
            with output.open("wb") as stream:
                np.savez(stream, allow_pickle=False, **arrays)
        except OSError as error:
            raise BadInput(
                f"the outputs can't be written: {error.strerror}", where=Where(path=str(output))
            ) from error
    told = [
        {"name": name, "dtype": str(array.dtype), "shape": list(array.shape)}
        for name, array in arrays.items()
    ]
    if json:
        print_json({"runtime": bundle.runtime.name, "samples": len(made), "outputs": told})
        return
    rows = [
        (row["name"], row["dtype"], " x ".join(map(str, row["shape"])), *_summary(array))
        for row, array in zip(told, arrays.values(), strict=True)
    ]
    print_table(
        f"{bundle.runtime.name}, {len(made)} samples",
        ("output", "", "", "min", "max", "mean"),
        rows,
    )


def profile_command(
    bundle: options.BundlePath,
    inputs: Inputs = None,
    target: Annotated[
        str | None, typer.Option("--target", "-t", help="The chipset; default: the first.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Tell what each operator costs: cycles of the simulator, multiply-adds, bytes."""
    from modelc.api.network import NetworkBundle

    opened = NetworkBundle.open(bundle, chipset=target)
    feeds = None
    if inputs is not None:
        import numpy as np

        from modelc.quant.feeds import open_feeds
        from modelc.quant.feeds.inputs import InputSpec

        specs = [
            InputSpec(row["name"], np.dtype(row["dtype"]), tuple(row["shape"]))
            for row in opened.inputs
        ]
        feeds = open_feeds(inputs, specs)
    report = opened.profile(feeds)
    if json:
        print_json(report.document())
        return
    profile = report.profile
    rows = [
        (row.operator, row.kind, ", ".join(row.modules), row.cycles)
        for row in sorted(profile.operators, key=lambda row: -row.cycles)
    ]
    title = (
        f"{profile.source}, {profile.runs} runs: its cycles compare operators roughly, and tell "
        "nothing of a device's time"
    )
    print_table(title, ("QNN operator", "kind", "modules", "cycles"), rows)
    print_table(
        "what each node costs anywhere",
        ("node", "operator", "module", "multiply-adds", "weights", "activations"),
        [
            (row["node"], row["op_type"], row["module"], row["macs"],
             megabytes(row["weight_bytes"]), megabytes(row["activation_bytes"]))
            for row in report.costs
        ],
    )  # fmt: skip
    for graph in profile.graphs:
        typer.echo(
            f"{graph.name}: {megabytes(graph.spill_fill_bytes)} spill-fill, {graph.vtcm_mb} MB VTCM"
        )


def _summary(array: Any) -> tuple[Any, ...]:
    if not array.size or array.dtype.kind not in "fiub":
        return (None, None, None)
    return float(array.min()), float(array.max()), float(array.mean())
