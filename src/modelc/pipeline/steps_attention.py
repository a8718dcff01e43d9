"""What both forms of attention cost in working memory, told from one layer compiled in each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from modelc.ir.arrays import load_arrays
from modelc.pipeline.step import StepContext
from modelc.pipeline.steps import weight_roots
from modelc.pipeline.steps_binaries import ATTENTION, TIMEOUT_S, read_rotary
from modelc.pipeline.steps_graphs import quantising
from modelc.pipeline.steps_samples import SAMPLES

if TYPE_CHECKING:
    import onnx_ir as ir

FORMS: Final = {"grouped": (), "sha": ("htp-sha",)}


def compare_attention(context: StepContext) -> None:
    """Compile the first layer, at the longest AR and context length, with grouped attention and
    with a branch for each head: attention.json with the spill-fill bytes of both, read back, and
    how close the form that is used came in the simulator, as `proof.json` has it.

    Options: chipset, fp16, graph, name (what the layer's graph is called), layers, weights
        (module -> kind), context_length (the longest), tried (the form that is used).
    """
    from modelc.ir.write import write_model
    from modelc.targets.snapdragon.chipsets import find_chipset
    from modelc.targets.snapdragon.compile import CompileOptions, compile_graphs
    from modelc.targets.snapdragon.proof import compare, trials

    name = context.options["name"]
    found, proofs = {}, {}
    for index, form in enumerate(FORMS):
        model = context.scratch / form / f"{name}.onnx"
        model.parent.mkdir()
        write_model(_first_layer(context, form), model)
        tried = {}
        if form == context.options["tried"]:
            samples = load_arrays(context.inputs["samples"] / SAMPLES)
            tried = trials({name: model}, samples, read_rotary(context), 0)
        made = compile_graphs(
            {name: model},
            find_chipset(context.options["chipset"]),
            CompileOptions(fp16=context.options["fp16"]),
            model.with_suffix(".bin"),
            workdir=model.with_name("work"),
            timeout_s=TIMEOUT_S,
            feeds={graph: trial.feed for graph, trial in tried.items()},
        )
        found[form] = made.info.graphs[0].spill_fill_bytes
        for graph, trial in tried.items():
            proofs[f"layer 0 of {context.options['graph']}"] = compare(trial, made.results[graph])
        context.progress((index + 1) / len(FORMS), form)
    document = {
        "graph": context.options["graph"],
        "spill_fill_bytes": found,
        "proofs": proofs,
    }
    (context.out / ATTENTION).write_text(json.dumps(document, indent=1) + "\n")


def _first_layer(context: StepContext, form: str) -> ir.Model:
    from modelc.decoder.parts import DecoderPart
    from modelc.ir.serial import load_graph
    from modelc.passes.base import run_passes
    from modelc.passes.htp.split import split_decoder
    from modelc.passes.pipelines import build_pipeline

    graph, layers = context.options["graph"], context.options["layers"]
    folder = context.inputs[f"prepare_exports.{graph}"]
    whole = load_graph(folder / f"{graph}.onnx", *weight_roots(context))
    rest = DecoderPart(1, layers, head=True)
    parts = [DecoderPart(0, 0, embedding=True), DecoderPart(0, 1), rest]
    model = split_decoder(whole, parts)[1]
    passes = [step for name in FORMS[form] for step in build_pipeline(name, {})]
    model, _ = run_passes(model, [*passes, *quantising(context)], graph=f"{graph}.{form}")
    return model
