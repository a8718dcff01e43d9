"""The calibrating steps of Snapdragon targets: ranges of activations, and encodings of them."""

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
from modelc.pipeline.job import CALIBRATION_TEXT, ENCODINGS_FILE
from modelc.pipeline.step import StepContext
from modelc.pipeline.steps import canonical_graph, read_facts, text_tokens
from modelc.pipeline.steps_graphs import ENCODINGS

if TYPE_CHECKING:
    import onnx_ir as ir

    from modelc.ir.encodings import Encoding

RANGES: Final = "ranges.json"
IMPORTED: Final = "imported.json"


def calibrate(context: StepContext) -> None:
    """Gather the range of every tensor of the expanded graph: ranges.json.

    Options: samples, sequence_length.
    """
    from modelc.passes.base import run_passes
    from modelc.passes.pipelines import build_pipeline
    from modelc.quant.calibrate import cut_batches, gather_ranges
    from modelc.quant.ranges import save_ranges

    tokenizer = load_tokenizer(context.inputs["import"])
    tokens = text_tokens(context, CALIBRATION_TEXT)
    length = min(context.options["sequence_length"], read_facts(context)["context_length"])
    bos = tokenizer.data.bos_id if tokenizer.data.add_bos else None
    batches = cut_batches(tokens, context.options["samples"], min(length, len(tokens)), bos)
    graph, _ = run_passes(canonical_graph(context), build_pipeline("expanded", {}), graph="decoder")
    save_ranges(gather_ranges(graph, batches, context.progress), context.out / RANGES)


def encode(context: StepContext) -> None:
    """Choose every tensor's encoding from its range: encodings.json, the same for all lengths and
    parts.

    Options: kv, embedding (its kind of weights).
    """
    from modelc.ir import encodings
    from modelc.quant.calibrate import activation_encodings
    from modelc.quant.ranges import load_ranges

    ranges = load_ranges(context.inputs["calibrate"] / RANGES)
    chosen = activation_encodings(ranges, context.options["kv"])
    chosen |= _table_encoding(canonical_graph(context), context.options["embedding"])
    encodings.save(chosen, context.out / ENCODINGS)


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
    from modelc.passes.base import run_passes
    from modelc.passes.pipelines import build_pipeline
    from modelc.quant.aimet.kinds import imported_kinds
    from modelc.quant.aimet.match import MATRICES

    path = context.sources[ENCODINGS_FILE]
    canonical = canonical_graph(context)
    graph, _ = run_passes(canonical, build_pipeline("expanded", {}), graph="decoder")
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
