"""A network's steps for HTP: lower, ask which operators are taken, compile, convert."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from modelc.errors import ToolFailed, Where
from modelc.pipeline.network.steps import GRAPH, canonical_graph
from modelc.pipeline.step import StepContext

if TYPE_CHECKING:
    from modelc.targets.snapdragon.chipsets import Chipset
    from modelc.targets.snapdragon.network.options import NetworkOptions
    from modelc.targets.snapdragon.network.verdicts import OperatorVerdict

NAME: Final = "network"
"""What the QNN graph's name begins with, and the files are called."""
TAIL: Final = "tail.onnx"
"""What the CPU runs behind what HTP does, where sizes depend on data."""
OPERATORS: Final = "operators.json"
PARTITION: Final = "partition.json"
INFO: Final = "info.json"
COSTS: Final = "costs.json"
TIMEOUT_S: Final = 4 * 3600.0
_SHOWN: Final = 6


def lower_network(context: StepContext) -> None:
    """Run the passes: network.onnx, ir/ with the text forms. They run on the head of a network that
    has a tail.

    Options: pipelines (rows of PIPELINES, in order), tail ("refuse" it, "keep" it beside the head
    as tail.onnx, or "join" it to the head again).

    Raises:
        BadInput: there is a tail, and it is to be refused; or nothing but a tail.
    """
    from modelc.ir.write import write_model
    from modelc.passes.base import run_passes
    from modelc.passes.network.tail import check_cut, cut_tail, join_tail
    from modelc.passes.pipelines import build_pipeline
    from modelc.pipeline.steps import IR

    passes = [one for row in context.options["pipelines"] for one in build_pipeline(row, {})]
    model, way = canonical_graph(context), context.options["tail"]
    outputs = [str(value.name) for value in model.graph.outputs]
    cut = cut_tail(model)
    if cut is not None and way != "join":
        check_cut(cut, way == "keep")
    head = model if cut is None else cut.head
    if head.graph.num_nodes():
        head, _ = run_passes(head, passes, graph=NAME, dump_dir=context.out / IR)
    if cut is not None and way == "join":
        head = join_tail(head, cut.tail, outputs)
    elif cut is not None:
        write_model(cut.tail, context.out / TAIL)
    write_model(head, context.out / GRAPH)


def probe_network(context: StepContext) -> None:
    """Ask the provider which operators HTP takes, without compiling: operators.json.

    Options: chipset, fp16, boundary, packages, fallback (refused ones are no error to those that
    compile).
    """
    from dataclasses import asdict

    rows = [asdict(row) for row in _probe(context)]
    (context.out / OPERATORS).write_text(json.dumps(rows, indent=1) + "\n")


def compile_binary(context: StepContext) -> None:
    """Compile the context binary for one chipset: network.bin, network.onnx, which loads it, and
    network.operators.json; info.json, partition.json; operators.json with what became of each node,
    costs.json with what it costs wherever it runs.

    Options: as `probe_network`.

    Raises:
        ToolFailed: operators are refused, all of which are told; or it fails otherwise.
    """
    from concurrent.futures import ThreadPoolExecutor
    from dataclasses import asdict

    from modelc.targets.snapdragon import binary
    from modelc.targets.snapdragon.network.compile import compile_network, compile_with_fallback
    from modelc.targets.snapdragon.network.static_costs import static_costs

    model = _lowered(context) / GRAPH
    make = compile_with_fallback if context.options["fallback"] else compile_network
    with ThreadPoolExecutor(1) as beside:
        costs = beside.submit(static_costs, model)
        try:
            made = make(
                model,
                NAME,
                chipset_of(context),
                options_of(context),
                context.out / f"{NAME}.bin",
                workdir=context.scratch,
                timeout_s=TIMEOUT_S,
            )
        except ToolFailed:
            if not context.options["fallback"]:
                _tell_refused(_probe(context))
            raise
    for name, rows in ((OPERATORS, made.verdicts), (COSTS, costs.result())):
        (context.out / name).write_text(json.dumps([asdict(r) for r in rows], indent=1) + "\n")
    (context.out / INFO).write_text(json.dumps(binary.to_json(made.info), indent=1) + "\n")
    (context.out / PARTITION).write_text(json.dumps(asdict(made.partition), indent=1) + "\n")


def _probe(context: StepContext) -> tuple[OperatorVerdict, ...]:
    from modelc.targets.snapdragon.network.probe import probe_operators

    return probe_operators(
        _lowered(context) / GRAPH,
        chipset_of(context),
        options_of(context),
        cache_dir=context.scratch / "cache",
        workdir=context.scratch,
        timeout_s=TIMEOUT_S,
    )


def _tell_refused(verdicts: tuple[OperatorVerdict, ...]) -> None:
    """Raises ToolFailed if some operators are refused."""
    refused = [row for row in verdicts if row.verdict == "refused"]
    if not refused:
        return
    listed = "\n".join(
        f"  - {row.op_type} {row.module or row.node}: {row.reason}" for row in refused[:_SHOWN]
    )
    more = f"\n  and {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else ""
    raise ToolFailed(
        f"HTP does not take {len(refused)} of {len(verdicts)} operators:\n{listed}{more}",
        where=Where(module=refused[0].module),
        hint=f"{refused[0].hint}; `modelc inspect --target T MODEL` lists all; "
        "--allow-cpu-fallback leaves them to the CPU",
    )


def convert_dlc(context: StepContext) -> None:
    """Write the DLC for one chipset: network.dlc.

    Options: as `probe_network`.
    """
    from modelc.targets.snapdragon.network.dlc import write_network_dlc

    write_network_dlc(
        _lowered(context) / GRAPH,
        NAME,
        chipset_of(context),
        options_of(context),
        context.out / f"{NAME}.dlc",
        workdir=context.scratch,
        timeout_s=TIMEOUT_S,
    )


def write_cpp(context: StepContext) -> None:
    """Write the C++ source for one chipset, and its weights: saver_output.c, params.bin.

    Options: as `probe_network`.
    """
    from modelc.targets.snapdragon.network.saver import write_source

    write_source(
        _lowered(context) / GRAPH,
        NAME,
        chipset_of(context),
        options_of(context),
        context.out,
        workdir=context.scratch,
        timeout_s=TIMEOUT_S,
    )


def build_model_library(context: StepContext) -> None:
    """Build model libraries of the float graph, with the encodings of the quantised one if there
    is, and the weights that this one was made of: lib/TARGET/libnetwork.so.

    Options: sdk (its release), targets.
    """
    import os
    import shutil

    from modelc.ir import network_encodings
    from modelc.ir.write import write_model
    from modelc.pipeline.network.steps import load_network
    from modelc.pipeline.network.steps_quantise import CHANGED, ENCODINGS
    from modelc.quant.network.aimet_form import overrides_text
    from modelc.targets.snapdragon.network.model_library import build_library
    from modelc.targets.snapdragon.sdk.find import find_sdk

    graph, overrides = context.inputs["lower"] / GRAPH, None
    if coded := context.inputs.get("quantize"):
        graph = coded / CHANGED
        overrides = ENCODINGS
        text = overrides_text(
            network_encodings.load(coded / ENCODINGS), load_network(coded / GRAPH)
        )
        (context.scratch / overrides).write_text(text)
    write_model(load_network(graph), context.scratch / GRAPH)
    made = build_library(
        GRAPH,
        NAME,
        context.options["targets"],
        find_sdk(os.environ),
        context.scratch,
        logs=context.scratch / "logs",
        timeout_s=TIMEOUT_S,
        encodings=overrides,
    )
    for path in made:
        kept = context.out / path.relative_to(context.scratch)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, kept)


def chipset_of(context: StepContext) -> Chipset:
    from modelc.targets.snapdragon.chipsets import find_chipset

    return find_chipset(context.options["chipset"])


def options_of(context: StepContext) -> NetworkOptions:
    """Return how the graph is compiled; op packages are where the step finds them."""
    from modelc.targets.snapdragon.compile import CompileOptions
    from modelc.targets.snapdragon.network.op_packages import OpPackage
    from modelc.targets.snapdragon.network.options import NetworkOptions

    options: Any = context.options
    return NetworkOptions(
        CompileOptions(fp16=options["fp16"]),
        "cpu" if options["boundary"] == "codes" else "htp",
        tuple(
            OpPackage(
                row["op"], context.sources[f"op_package_{n}"], row["interface"], row["target"]
            )
            for n, row in enumerate(options["packages"])
        ),
    )


def _lowered(context: StepContext) -> Any:
    return context.inputs["quantize" if "quantize" in context.inputs else "lower"]
