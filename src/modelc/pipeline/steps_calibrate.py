"""The calibrating steps of Snapdragon targets: statistics of activations, and their encodings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from modelc.bundle.tokenizer import load_tokenizer
from modelc.pipeline.imported_weights import (
    SCALES,
    match_file,
    scales_of_graph,
    table_of_file,
)
from modelc.pipeline.job import CALIBRATION_DATA, CALIBRATION_TEXT, ENCODINGS_FILE
from modelc.pipeline.step import StepContext
from modelc.pipeline.steps import canonical_graph, read_facts
from modelc.pipeline.steps_graphs import ENCODINGS

if TYPE_CHECKING:
    import onnx_ir as ir

    from modelc.ir.encodings import Encoding

STATISTICS: Final = "statistics.npz"
TABLE: Final = "calibration.csv"
IMPORTED: Final = "imported.json"


def calibrate(context: StepContext) -> None:
    """Gather statistics of every tensor of the expanded graph: statistics.npz. A run that was
    killed is gone on with.

    Options: samples, sequence_length.
    """
    from modelc.ir.arrays import save_arrays
    from modelc.quant.calibrate import gather_statistics
    from modelc.quant.statistics import to_arrays

    sequences = calibration_sequences(context)
    graph = expanded_graph(context)
    statistics = gather_statistics(graph, sequences, context.progress, context.partial)
    save_arrays(context.out / STATISTICS, to_arrays(statistics))


def encode(context: StepContext) -> None:
    """Choose every tensor's encoding from its statistics: encodings.json, the same for all lengths
    and parts, and calibration.csv for people to read.

    Options: kv, embedding (its kind of weights), observer, percentile (None: the observer's own).
    """
    from modelc.ir import encodings
    from modelc.ir.arrays import load_arrays
    from modelc.quant.calibrate import activation_encodings, choose_ranges
    from modelc.quant.calibration_table import render_table
    from modelc.quant.observers import make_observer
    from modelc.quant.statistics import from_arrays

    options = context.options
    kept = {} if options["percentile"] is None else {"kept": options["percentile"]}
    observer = make_observer(options["observer"], **kept)
    statistics = from_arrays(load_arrays(context.inputs["calibrate"] / STATISTICS))
    chosen = activation_encodings(choose_ranges(statistics, observer, options["kv"]), options["kv"])
    graph = expanded_graph(context)
    chosen |= _table_encoding(graph, options["embedding"])
    encodings.save(chosen, context.out / ENCODINGS)
    (context.out / TABLE).write_text(render_table(graph, statistics, chosen), encoding="utf-8")


def calibration_sequences(context: StepContext) -> list[list[int]]:
    """Return the sequences of tokens that a step calibrates on, of a text or of data.

    Options: samples, sequence_length.

    Raises:
        BadInput: the file is not what it is taken for, or tokenises to nothing.
    """
    from modelc.quant.samples import cut_text, pick_rows

    facts, options = read_facts(context), context.options
    count, length = (
        options["samples"],
        min(options["sequence_length"], facts["context_length"]),
    )
    tokenizer = load_tokenizer(context.inputs["import"])
    if CALIBRATION_DATA in context.sources:
        path = context.sources[CALIBRATION_DATA]
        return pick_rows(path, tokenizer, facts["vocab_size"], count, length)
    return cut_text(context.sources[CALIBRATION_TEXT], tokenizer, count, length)


def expanded_graph(context: StepContext) -> ir.Model:
    """Return the canonical graph, or what algorithms made of it, its composites written out."""
    from modelc.passes.base import run_passes
    from modelc.passes.pipelines import build_pipeline

    pipeline = build_pipeline("expanded", {})
    return run_passes(canonical_graph(context), pipeline, graph="decoder")[0]


def import_encodings(context: StepContext) -> None:
    """Take every tensor's encoding from an AIMET file: encodings.json; weights.npz with the scales
    of matrices; and imported.json with the kinds of weights and the weights that can't be as the
    file says, the names that fit nothing, that were derived, and that it leaves in floating point.

    Options: kv, embedding (its kind of weights).

    Raises:
        BadInput: as `match_file`.
    """
    from modelc.ir import encodings
    from modelc.ir.packing import given_scales
    from modelc.quant.aimet.kinds import imported_kinds
    from modelc.quant.aimet.match import MATRICES

    path = context.sources[ENCODINGS_FILE]
    graph = expanded_graph(context)
    matched = match_file(path, graph, context.options["kv"])
    weights = imported_kinds(matched.weights)
    for name in matched.unmatched:
        context.log(f"{name} in {path.name} fits no tensor of the model")
    for name, said in weights.others.items():
        if name.endswith(MATRICES):  # vectors have one form here, whatever a file says
            context.log(f"{name} stays as it is without {path.name}, which has {said}")
    lists = {
        "weights": weights.kinds,
        "other_weights": weights.others,
        "unmatched": matched.unmatched,
        "derived": matched.derived,
        "floats": matched.floats,
    }
    (context.out / IMPORTED).write_text(json.dumps(lists, indent=1) + "\n")
    table = table_of_file(matched.weights, weights.kinds, path)
    rows = _table_encoding(graph, context.options["embedding"], table)
    encodings.save({**matched.encodings, **table, **rows}, context.out / ENCODINGS)
    scales = scales_of_graph(graph.graph, matched.weights, weights.kinds)
    given_scales.save(scales, context.out / SCALES)


def _table_encoding(
    model: ir.Model, kind: str, known: Mapping[str, Encoding] = MappingProxyType({})
) -> dict[str, Encoding]:
    """Return the encoding of the embedding's table under its own name, so that no part has to look
    through the table again. What is looked up has the same, if it is of the same type: so rows are
    moved as they are, and the part that reads them knows it."""
    from modelc.ir.packing.kinds import TABLE_KINDS
    from modelc.passes.htp.quantised_weights import table_encoding

    (rows,) = (node for node in model.graph if node.op_type == "Gather" and _is_embedding(node))
    table, found = rows.inputs[0], rows.outputs[0]
    assert table is not None and table.name and found.name
    encoding = table_encoding(table, TABLE_KINDS[kind], known)
    alike = (table.name, found.name) if encoding.dtype == "uint16" else (table.name,)
    return dict.fromkeys(alike, encoding)


def _is_embedding(node: ir.Node) -> bool:
    from modelc.ir.provenance import module_of

    return module_of(node) == "model.embed_tokens"
