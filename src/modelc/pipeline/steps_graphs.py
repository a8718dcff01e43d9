"""The graph steps of Snapdragon targets: prepare_exports, split_model, mha_to_sha, quantize.

Graphs before `quantize` hold no weights: they refer into the source. Each graph NAME.onnx has its
encodings beside it, NAME.encodings in AIMET's form, unless the scheme is a float one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from modelc.pipeline.layout import lengths_name
from modelc.pipeline.step import StepContext
from modelc.pipeline.steps import IR, canonical_graph, source_root

if TYPE_CHECKING:
    import onnx_ir as ir


ENCODINGS: Final = "encodings.json"
WEIGHTS: Final = "weights.data"


def prepare_exports(context: StepContext) -> None:
    """Make the static graph of one AR length and context length: arN_clC.onnx.

    Options: ar, context_length.
    """
    from modelc.passes.base import run_passes
    from modelc.passes.pipelines import build_pipeline

    sizes = {"ar": context.options["ar"], "context_length": context.options["context_length"]}
    name = lengths_name(**sizes)
    passes = build_pipeline("htp-float", sizes)
    model, _ = run_passes(
        canonical_graph(context), passes, graph=name, dump_dir=context.out / IR
    )
    _save(context, model, name)


def split_model(context: StepContext) -> None:
    """Cut one static graph at its layers: I_of_N.onnx for each part.

    Options: graph, parts ([first layer, last, embedding, head] of each by name).
    """
    from modelc.decoder.parts import DecoderPart
    from modelc.passes.htp.split import split_decoder

    parts = context.options["parts"]
    model = _load(context, f"prepare_exports.{context.options['graph']}", context.options["graph"])
    graphs = split_decoder(model, [DecoderPart(*row) for row in parts.values()])
    for place, graph in zip(parts, graphs, strict=True):
        _save(context, graph, place)


def mha_to_sha(context: StepContext) -> None:
    """Give every head of one static graph's parts a branch of its own: I_of_N.onnx.

    Options: graph, parts (names of those with attention).
    """
    from modelc.passes.base import run_passes
    from modelc.passes.pipelines import build_pipeline

    graph, parts = context.options["graph"], context.options["parts"]
    for index, place in enumerate(parts):
        model, _ = run_passes(
            _load(context, f"split_model.{graph}", place),
            build_pipeline("htp-sha", {}),
            graph=f"{graph}_{place}",
            dump_dir=context.out / IR / place,
        )
        _save(context, model, place)
        context.progress((index + 1) / len(parts), place)


def quantize(context: StepContext) -> None:
    """Quantise one part for all lengths: NAME.onnx for each graph, their weights in one file.

    Options: part, graphs (graph name -> step that it comes from), weights (module -> kind).
    """
    from modelc.ir.encodings import load
    from modelc.ir.write import write_models
    from modelc.passes.base import run_passes
    from modelc.passes.htp.quantise import Quantise

    part, weights = context.options["part"], context.options["weights"]
    models: dict[Path, ir.Model] = {}
    for name, step in context.options["graphs"].items():
        model = _load(context, step, part)
        if "encodings" in context.inputs:
            _export(context, model, name)
            encodings = load(context.inputs["encodings"] / ENCODINGS)
            passes = [Quantise(encodings, weights)]
            dump_dir = context.out / IR / name
            model, _ = run_passes(model, passes, graph=name, dump_dir=dump_dir)
        models[context.out / f"{name}.onnx"] = model
    write_models(models, context.out / WEIGHTS)


def _load(context: StepContext, step: str, name: str) -> ir.Model:
    from modelc.ir.serial import load_graph

    return load_graph(context.inputs[step] / f"{name}.onnx", source_root(context))


def _save(context: StepContext, model: ir.Model, name: str) -> None:
    from modelc.ir.serial import save_graph

    save_graph(model, context.out / f"{name}.onnx", source_root(context))
    if "encodings" in context.inputs:
        _export(context, model, name)


def _export(context: StepContext, model: ir.Model, name: str) -> None:
    """Write the encodings of a graph's tensors under its own names, as AIMET's files have them."""
    from modelc.ir.encodings import load
    from modelc.ir.provenance import canonical_name
    from modelc.passes.htp.value_encodings import value_encodings
    from modelc.quant.aimet.write import graph_encodings, write_encodings

    known = load(context.inputs["encodings"] / ENCODINGS)
    tables = {
        table: known[canonical_name(node.outputs[0])]
        for node in model.graph
        if node.op_type == "Gather" and (table := node.inputs[0]) and table.is_initializer()
    }
    chosen = value_encodings(model.graph, known, tables)
    named = {str(value.name): encoding for value, encoding in chosen.items()}
    write_encodings(context.out / f"{name}.encodings", graph_encodings(model, named, {}))
