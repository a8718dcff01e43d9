"""Steps of every network: export it from PyTorch, read it, run it in floats."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from modelc.errors import BadInput, Where
from modelc.pipeline.step import StepContext

if TYPE_CHECKING:
    import onnx_ir as ir

    from modelc.quant.feeds import Feed

GRAPH: Final = "network.onnx"
FACTS: Final = "facts.json"
SAMPLES: Final = "samples.npz"
EXPECTED: Final = "expected.npz"
TOLD: Final = "samples.json"
EXPORT_TIMEOUT_S: Final = 3600.0
SAMPLE_BYTES: Final = 32 << 20
"""Of all samples that the bundle carries, inputs and outputs together."""


def export_network(context: StepContext) -> None:
    """Export a PyTorch source in a child process: network.onnx, its weights beside it if large.

    Options: spec (the source, as its own frontend names it), dims.
    """
    from modelc.frontends.torch.export import export_to_onnx
    from modelc.frontends.torch.spec import parse_spec

    export_to_onnx(
        parse_spec(str(context.source)),
        context.out / GRAPH,
        dims=context.options["dims"],
        workdir=context.scratch,
        timeout_s=EXPORT_TIMEOUT_S,
    )


def read_canonical(context: StepContext) -> None:
    """Write the canonical graph: network.onnx with its weights beside it; facts.json, which says
    of a network with a tail what that and its head take and give.

    Options: dims.

    Raises:
        BadInput: as `read_network`; or the number of axes of an output is not known.
    """
    from modelc.frontends.onnx.network import read_network
    from modelc.ir.write import write_model
    from modelc.passes.network.tail import cut_tail

    exported = context.inputs.get("export")
    path = exported / GRAPH if exported else context.source
    model = read_network(path, {} if exported else context.options["dims"])
    write_model(model, context.out / GRAPH)
    facts: dict[str, Any] = {
        **_ports(model),
        "nodes": len(model.graph),
        "parameters": sum(
            value.const_value.size
            for value in model.graph.initializers.values()
            if value.const_value is not None
        ),
    }
    if (cut := cut_tail(model)) is not None:
        facts["tail"] = {"nodes": [asdict(node) for node in cut.nodes], **_ports(cut.tail)}
        facts["head"] = _ports(cut.head)
    (context.out / FACTS).write_text(json.dumps(facts, indent=1) + "\n")


def run_reference(context: StepContext) -> None:
    """Run the float network on the samples that the result is verified on: samples.npz with the
    inputs, expected.npz with the outputs and what a tail reads; samples.json, which says whether
    they are made up.

    Options: samples (at most), random (made-up feeds, where no data is given), macs (of all
    samples together, at most; but one is run).

    Raises:
        BadInput: no feed, or outputs that are not finite.
    """
    from modelc.ir.arrays import save_sequence
    from modelc.passes.network.tail import cut_tail
    from modelc.reference.network import NetworkReference
    from modelc.targets.snapdragon.network.static_costs import costs_of

    model = canonical_graph(context)
    macs = sum(cost.macs or 0 for cost in costs_of(model.graph))
    most = min(context.options["samples"], max(1, context.options["macs"] // max(macs, 1)))
    cut = cut_tail(model)
    if cut is not None:
        made_by = {str(value.name): value for node in model.graph for value in node.outputs}
        model.graph.outputs.extend(made_by[name] for name in cut.crossing)
    reference = NetworkReference(model)
    inputs: list[Feed] = []
    outputs: list[dict[str, np.ndarray]] = []
    size = 0
    for feed in islice(read_feeds(context, model, context.options["random"], VERIFY_ORDER), most):
        made = reference.run(feed)
        _check_finite(made)
        size += sum(array.nbytes for array in (*feed.values(), *made.values()))
        if inputs and size > SAMPLE_BYTES:
            break
        inputs.append(feed)
        outputs.append(made)
    if not inputs:
        raise BadInput("there are no feeds to verify on")
    made_up = not any(name in context.sources for name in VERIFY_ORDER)
    (context.out / TOLD).write_text(json.dumps({"made_up": made_up}) + "\n")
    save_sequence(context.out / SAMPLES, inputs)
    save_sequence(context.out / EXPECTED, outputs)
    context.log(f"{len(inputs)} samples, {macs / 1e6:.0f} million multiply-adds each")


VERIFY_ORDER: Final = ("verify_feeds", "calibration_feeds")
CALIBRATE_ORDER: Final = ("calibration_feeds",)


def read_feeds(
    context: StepContext, model: ir.Model, random: int | None, order: tuple[str, ...]
) -> Iterator[Feed]:
    """Yield feeds of the first place in `order` that the step reads, else made-up ones.

    Raises:
        BadInput: as `open_feeds`.
    """
    from modelc.quant.feeds import inputs_of, open_feeds, random_feeds, read_preprocess

    place = next((name for name in order if name in context.sources), None)
    if place is None:
        assert random is not None
        context.log(f"there is no data: {random} made-up feeds are used, which show no real ranges")
        yield from random_feeds(model, random)
        return
    given = context.sources.get("preprocess")
    preprocess = read_preprocess(given) if given else None
    yield from open_feeds(context.sources[place], inputs_of(model), preprocess=preprocess)


def canonical_graph(context: StepContext) -> ir.Model:
    """Load the canonical graph, its weights mapped."""
    return load_network(context.inputs["canonical"] / GRAPH)


def load_network(path: Path) -> ir.Model:
    """Load a network's graph that a step wrote, its weights mapped."""
    import onnx_ir as ir

    return ir.load(path)


def read_facts(context: StepContext) -> dict[str, Any]:
    """Return what the step `canonical` wrote beside the graph."""
    facts: dict[str, Any] = json.loads((context.inputs["canonical"] / FACTS).read_text())
    return facts


def _ports(model: ir.Model) -> dict[str, list[dict[str, Any]]]:
    return {
        "inputs": [_port(value) for value in model.graph.inputs],
        "outputs": [_port(value) for value in model.graph.outputs],
    }


def _port(value: ir.Value) -> dict[str, Any]:
    """Return name, type and sizes; one that depends on the inputs' numbers is a text."""
    if value.shape is None or value.dtype is None:
        raise BadInput(
            f"nothing says which type {value.name} has, and how many axes",
            hint="export the model again with types and shapes of its outputs",
        )
    return {
        "name": str(value.name),
        "dtype": value.dtype.numpy().name,
        "shape": [size if isinstance(size, int) else size.value or "?" for size in value.shape],
    }


def _check_finite(outputs: dict[str, np.ndarray]) -> None:
    for name, array in outputs.items():
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise BadInput(
                f"the float model makes NaN in {name}",
                where=Where(step="reference"),
                hint="look at its weights, and at the data that it is verified on",
            )
