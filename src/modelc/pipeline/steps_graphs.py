"""The graph steps of Snapdragon targets: prepare_exports, split_model, mha_to_sha, quantize.

Graphs before `quantize` hold no weights: they refer into the source. Each graph NAME.onnx has its
encodings beside it, NAME.encodings in AIMET's form, unless the scheme is a float one.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from modelc.pipeline.imported_weights import SCALES
from modelc.pipeline.layout import lengths_name
from modelc.pipeline.step import StepContext
from modelc.pipeline.steps import IR, canonical_graph, weight_roots

if TYPE_CHECKING:
    import onnx_ir as ir

    from modelc.passes.base import Pass
    from modelc.quant.aimet.encodings import AimetEncodings

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
    model, _ = run_passes(canonical_graph(context), passes, graph=name, dump_dir=context.out / IR)
    _save(context, model, name)


def split_model(context: StepContext) -> None:
    """Cut one static graph at its layers: NAME.onnx for each part.

    Options: graph, parts (graph name -> [first layer, last, embedding, head]).
    """
    from modelc.decoder.parts import DecoderPart
    from modelc.passes.htp.split import split_decoder

    graph, parts = context.options["graph"], context.options["parts"]
    model = load_part(context, f"prepare_exports.{graph}", graph)
    graphs = split_decoder(model, [DecoderPart(*row) for row in parts.values()])
    for name, part in zip(parts, graphs, strict=True):
        _save(context, part, name)


def mha_to_sha(context: StepContext) -> None:
    """Give every head of one static graph's parts a branch of its own: NAME.onnx.

    Options: graph, parts (names of those with attention).
    """
    from modelc.passes.base import run_passes
    from modelc.passes.pipelines import build_pipeline

    graph, parts = context.options["graph"], context.options["parts"]
    for index, name in enumerate(parts):
        model, _ = run_passes(
            load_part(context, f"split_model.{graph}", name),
            build_pipeline("htp-sha", {}),
            graph=name,
            dump_dir=context.out / IR / name,
        )
        _save(context, model, name)
        context.progress((index + 1) / len(parts), name)


def quantize(context: StepContext) -> None:
    """Quantise one part for all lengths: NAME.onnx for each graph, their weights in one file.

    Options: graphs (name -> step that it comes from), weights (module -> kind), parameters
        (whether the encodings beside the graphs are to tell of weights as well).
    """
    import onnx_ir as ir

    from modelc.ir.write import write_models
    from modelc.passes.base import run_passes
    from modelc.quant.aimet.parameters import parameter_encodings
    from modelc.quant.aimet.write import write_encodings

    passes = quantising(context)
    models: dict[Path, ir.Model] = {}
    exported: dict[str, AimetEncodings] = {}
    for name, step in context.options["graphs"].items():
        model = load_part(context, step, name)
        if "encodings" in context.inputs:
            exported[name] = _encodings_of(context, model)
            dump_dir = context.out / IR / name
            model, _ = run_passes(model, passes, graph=name, dump_dir=dump_dir)
        models[context.out / f"{name}.onnx"] = model
    write_models(models, context.out / WEIGHTS)
    for name, found in exported.items():
        if context.options["parameters"]:
            quantised = ir.load(context.out / f"{name}.onnx")
            found = replace(found, parameters=parameter_encodings(quantised))
        write_encodings(context.out / f"{name}.encodings", found)


def quantising(context: StepContext) -> list[Pass]:
    """Return the pass that quantises a part by the encodings, none if it stays in floats.

    Options: weights (module -> kind).
    """
    from modelc.ir.encodings import load
    from modelc.ir.packing import given_scales
    from modelc.passes.htp.quantise import Quantise

    if "encodings" not in context.inputs:
        return []
    folder = context.inputs["encodings"]
    scales = given_scales.load(folder / SCALES) if (folder / SCALES).exists() else {}
    return [Quantise(load(folder / ENCODINGS), context.options["weights"], scales)]


def export_encodings(context: StepContext) -> None:
    """Keep the encodings of one part's graphs, those of their weights as well: NAME.encodings."""
    (lowered,) = context.inputs.values()
    for path in sorted(lowered.glob("*.encodings")):
        shutil.copyfile(path, context.out / path.name)


def load_part(context: StepContext, step: str, name: str) -> ir.Model:
    """Load a graph that a step before `quantize` made; its weights refer into the source."""
    from modelc.ir.serial import load_graph

    return load_graph(context.inputs[step] / f"{name}.onnx", *weight_roots(context))


def _save(context: StepContext, model: ir.Model, name: str) -> None:
    from modelc.ir.serial import save_graph

    save_graph(model, context.out / f"{name}.onnx", *weight_roots(context))
    if "encodings" in context.inputs:
        from modelc.quant.aimet.write import write_encodings

        write_encodings(context.out / f"{name}.encodings", _encodings_of(context, model))


def _encodings_of(context: StepContext, model: ir.Model) -> AimetEncodings:
    """Return the encodings of a graph's tensors, but for weights, under its own names."""
    from modelc.ir.encodings import load
    from modelc.ir.provenance import canonical_name
    from modelc.passes.htp.value_encodings import value_encodings
    from modelc.quant.aimet.write import graph_encodings

    known = load(context.inputs["encodings"] / ENCODINGS)
    tables = {
        table: known[canonical_name(node.outputs[0])]
        for node in model.graph
        if node.op_type == "Gather" and (table := node.inputs[0]) and table.is_initializer()
    }
    chosen = value_encodings(model.graph, known, tables)
    named = {str(value.name): encoding for value, encoding in chosen.items()}
    return graph_encodings(model, named, {})
