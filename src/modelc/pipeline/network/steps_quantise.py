"""A network's quantisation: what is seen of every tensor, then codes for all of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from modelc.errors import BadInput
from modelc.pipeline.network.edge_codes import CODES, edge_codes, encodings_of
from modelc.pipeline.network.steps import CALIBRATE_ORDER, GRAPH, load_network, read_feeds
from modelc.pipeline.network.steps_htp import TAIL
from modelc.pipeline.step import StepContext

if TYPE_CHECKING:
    import onnx_ir as ir

    from modelc.quant.feeds import Feed
    from modelc.quant.network.calibrate import NetworkStatistics

STATISTICS: Final = "statistics.npz"
SEEN: Final = "seen.json"
ENCODINGS: Final = "encodings.json"
PRECISIONS: Final = "precisions.json"
CHANGED: Final = "changed.onnx"
"""The float graph that was quantised: constants, weights and biases may be others than the lowered
one's."""
TABLE: Final = "calibration.csv"


def calibrate_network(context: StepContext) -> None:
    """Run the lowered float graph on the calibration feeds: statistics of every float tensor.

    Options: samples (at most), random (made-up feeds, where no data is given), equalise.
    """
    from modelc.ir.arrays import save_arrays
    from modelc.quant.network.calibrate import gather_network_statistics
    from modelc.quant.statistics import to_arrays

    model = float_graph(context)
    most = context.options["samples"]
    seen = gather_network_statistics(
        model,
        _feeds(context, model),
        lambda done, message: context.progress(min(done / most, 1.0), message),
    )
    context.log(f"{seen.feeds} feeds")
    save_arrays(context.out / STATISTICS, to_arrays(seen.tensors))
    rest = {"peaks": dict(seen.peaks), "hidden": sorted(seen.hidden), "feeds": seen.feeds}
    (context.out / SEEN).write_text(json.dumps(rest, indent=1) + "\n")


def quantise_network(context: StepContext) -> None:
    """Write the quantised graph: network.onnx; encodings.json, calibration.csv, and precisions.json
    with what differs from the scheme; for a library changed.onnx, the float graph that has these
    encodings. Where the network takes and gives codes also codes.json, with the encodings of these,
    and the tail, if there is one, which takes them.

    Options: precision (of the scheme, its fields), sensitive_db, overrides, observer, percentile,
    rounding, bias_correction, boundary, samples and random and equalise (as `calibrate_network`),
    fp16 (float nodes can run), library (one will be built).

    Raises:
        BadInput: an override fits nothing, or float nodes can't run.
    """
    from modelc.ir import network_encodings
    from modelc.ir.network_encodings import Precision
    from modelc.ir.write import write_model
    from modelc.passes.base import run_passes
    from modelc.passes.network_quantise.coded_inputs import take_codes
    from modelc.passes.network_quantise.quantise import QuantiseNetwork
    from modelc.pipeline.steps import IR
    from modelc.quant.calibration_table import render_table
    from modelc.quant.network.correct_biases import correct_biases, mean_outputs
    from modelc.quant.network.encodings import choose_encodings
    from modelc.quant.network.precisions import assign_precisions
    from modelc.quant.network.round_weights import round_weights
    from modelc.quant.network.schemes import NetworkScheme
    from modelc.quant.observers import make_observer

    options: Any = context.options
    model, seen = float_graph(context), _statistics(context)
    precision = Precision(**options["precision"])
    scheme = NetworkScheme("", precision, options["sensitive_db"], min_sqnr_db=0, min_cosine=0)
    chosen = assign_precisions(model, scheme, seen, options["overrides"])
    if chosen.needs_fp16 and not options["fp16"]:
        raise BadInput(
            "some nodes stay float, which the chipset can't run",
            hint="leave `float` out of the overrides, or choose a chipset with fp16",
        )
    correct = options["bias_correction"]
    wanted = mean_outputs(model, chosen.nodes, _feeds(context, model)) if correct else None
    scales: Any = {}
    if options["rounding"] != "nearest":
        rounded = round_weights(
            model,
            chosen.nodes,
            lambda: _feeds(context, model),
            options["rounding"],
            context.progress,
        )
        scales = rounded.scales
        for name, why in rounded.left.items():
            context.log(f"{name} is rounded to nearest: {why}")
    kept = {} if options["percentile"] is None else {"kept": options["percentile"]}
    observer = make_observer(options["observer"], **kept)
    encodings = choose_encodings(model, seen, chosen.nodes, observer, scales)
    if wanted is not None:
        coded = QuantiseNetwork(encodings).apply(model.clone())
        corrected = correct_biases(model, coded, chosen.nodes, wanted, context.progress)
        for name, why in corrected.left.items():
            context.log(f"the bias of {name} is not corrected: {why}")
        context.log(f"{len(corrected.shifts)} biases corrected, on {len(wanted.feeds)} feeds")
        # Of what an Add adds, the codes are of its new range.
        encodings = choose_encodings(model, seen, chosen.nodes, observer, scales)
    (context.out / TABLE).write_text(
        render_table(model, seen.tensors, encodings.values), encoding="utf-8"
    )
    network_encodings.save(encodings, context.out / ENCODINGS)
    others = {
        name: f"{row.weights} weights, {row.activations}"
        for name, row in sorted(encodings.nodes.items())
        if row != scheme.precision
    }
    if options["library"]:
        write_model(model, context.out / CHANGED)
    told = {"widened": sorted(chosen.widened), "others": others}
    (context.out / PRECISIONS).write_text(json.dumps(told, indent=1) + "\n")
    quantised, _ = run_passes(
        model,
        [QuantiseNetwork(encodings, options["boundary"] == "codes")],
        graph="network",
        dump_dir=context.out / IR,
    )
    write_model(quantised, context.out / GRAPH)
    if options["boundary"] == "codes":
        codes = edge_codes(quantised, encodings.values)
        (context.out / CODES).write_text(json.dumps(codes, indent=1) + "\n")
        if (tail := context.inputs["lower"] / TAIL).is_file():
            write_model(take_codes(load_network(tail), encodings_of(codes)), context.out / TAIL)


def float_graph(context: StepContext) -> ir.Model:
    """Load the lowered graph, with constants apart, and equalised if that is asked for."""
    from modelc.quant.network.unshare import unshare_constants

    model = load_network(context.inputs["lower"] / GRAPH)
    unshare_constants(model.graph)
    if context.options["equalise"]:
        from modelc.quant.algorithms.equalise_graph import equalise_graph

        for value in model.graph.initializers.values():
            if value.const_value is not None:
                value.const_value = _in_memory(value)
        pairs = equalise_graph(model)
        context.log(f"{len(pairs)} pairs of layers equalised")
    return model


def _in_memory(value: ir.Value) -> Any:
    import onnx_ir as ir

    tensor = value.const_value
    return ir.Tensor(tensor.numpy().copy(), name=value.name) if tensor is not None else None


def _feeds(context: StepContext, model: ir.Model) -> Iterator[Feed]:
    from itertools import islice

    found = read_feeds(context, model, context.options["random"], CALIBRATE_ORDER)
    return islice(found, context.options["samples"])


def _statistics(context: StepContext) -> NetworkStatistics:
    from modelc.ir.arrays import load_arrays
    from modelc.quant.network.calibrate import NetworkStatistics
    from modelc.quant.statistics import from_arrays

    folder = context.inputs["calibrate"]
    rest = json.loads((folder / SEEN).read_text())
    return NetworkStatistics(
        from_arrays(load_arrays(folder / STATISTICS)),
        rest["peaks"],
        frozenset(rest["hidden"]),
        rest["feeds"],
    )
