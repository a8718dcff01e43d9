"""Commands for models that are no decoders: profile, compile-qnn; and what `run` does for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelc.cli import options
from modelc.cli.network_options import Dim
from modelc.cli.render import megabytes, print_json, print_table

if TYPE_CHECKING:
    from modelc.api.network import NetworkBundle

Inputs = Annotated[
    Path | None,
    typer.Option(help="Samples: .npz, an input list, a folder of images, FILE.py:function."),
]


def run_network(bundle: NetworkBundle, inputs: Path, output: Path | None, json: bool) -> None:
    """Run a network's bundle on samples; outputs go to a .npz, several samples one after the other
    along a new first axis; where an output's sizes differ, as SAMPLE/NAME."""
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
    arrays: dict[str, np.ndarray] = {}
    for name in made[0]:
        found = [row[name] for row in made]
        if len(found) == 1:
            arrays[name] = found[0]
        elif len({array.shape for array in found}) == 1:
            arrays[name] = np.stack(found)
        else:
            arrays |= {f"{index}/{name}": array for index, array in enumerate(found)}
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
    parts = {graph.name: number for number, graph in enumerate(profile.graphs, start=1)}
    rows = [
        (row.operator, row.kind, ", ".join(row.modules), *([parts[row.graph]] * (len(parts) > 1)),
         row.cycles)
        for row in sorted(profile.operators, key=lambda row: -row.cycles)
    ]  # fmt: skip
    title = (
        f"{profile.source}, {profile.runs} runs: its cycles compare operators roughly, and tell "
        "nothing of a device's time"
    )
    columns = ("QNN operator", "kind", "modules", *(["part"] * (len(parts) > 1)), "cycles")
    print_table(title, columns, rows)
    print_table(
        "what each node costs anywhere",
        ("node", "operator", "module", "multiply-adds", "weights", "activations"),
        [
            (row["node"], row["op_type"], row["module"], row["macs"],
             megabytes(row["weight_bytes"]), megabytes(row["activation_bytes"]))
            for row in report.costs
        ],
    )  # fmt: skip
    if report.on_cpu:
        print_table(
            "on the CPU, not measured",
            ("operator", "module", "why"),
            [(row["op_type"], row["module"], row["why"]) for row in report.on_cpu],
        )
    for graph in profile.graphs:
        part = f"part {parts[graph.name]}, " if len(parts) > 1 else ""
        typer.echo(
            f"{part}{graph.name}: {graph.cycles:,.0f} cycles, "
            f"{megabytes(graph.spill_fill_bytes)} spill-fill, {graph.vtcm_mb} MB VTCM"
        )


def compile_qnn_command(
    source: options.Source,
    output: Annotated[Path, typer.Argument(help="OUT.dlc, OUT.bin or OUT.cpp.")],
    quantize: Annotated[bool, typer.Option("--quantize", help="Integers, not fp16.")] = False,
    calibration_data: options.CalibrationData = None,
    act_bitwidth: Annotated[int, typer.Option(help="Bits of activations: 8 or 16.")] = 8,
    weights_bitwidth: Annotated[int, typer.Option(help="Bits of weights: 4 or 8.")] = 8,
    random_feeds: Annotated[
        int | None, typer.Option(help="Made-up samples to calibrate on, for want of data.")
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(help="dlc, cpp or context-binary; default: what OUT ends with."),
    ] = None,
    backend: Annotated[str, typer.Option(help="HTP, GPU or CPU.")] = "HTP",
    device: Annotated[
        str | None, typer.Option(help='A chipset by any name: "Snapdragon 8 Gen 3".')
    ] = None,
    dim: Dim = None,
) -> None:
    """Compile a model that is no decoder into one file: a DLC, a context binary, or C++ source."""
    import warnings

    from modelc.api.qnn import QNNCompiler
    from modelc.cli.progress import watch
    from modelc.cli.takes_recipe import pairs
    from modelc.errors import BadInput

    given = {"calibration_data": calibration_data, "random_feeds": random_feeds}
    if not quantize and any(value is not None for value in given.values()):
        raise BadInput("data to calibrate on is of use with --quantize only")
    asked = {
        "enabled": True,
        "act_bitwidth": act_bitwidth,
        "weights_bitwidth": weights_bitwidth,
        **{name: value for name, value in given.items() if value is not None},
    }
    sizes = {name: int(size) for name, size in pairs("dim", "NAME=SIZE", dim or []).items()}
    with warnings.catch_warnings(record=True) as told, watch(quiet=False) as events:
        warnings.simplefilter("always")
        made = QNNCompiler(backend).compile(
            source,
            output,
            output_format=format,
            quantization=asked if quantize else None,
            target_device=device,
            dims=sizes,
            events=events,
        )
    for warning in told:
        typer.echo(f"note: {warning.message}", err=True)
    typer.echo(str(made))


def _summary(array: Any) -> tuple[Any, ...]:
    if not array.size or array.dtype.kind not in "fiub":
        return (None, None, None)
    return float(array.min()), float(array.max()), float(array.mean())
