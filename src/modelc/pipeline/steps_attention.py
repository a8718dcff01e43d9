"""What both forms of attention cost in working memory, told from one layer compiled in each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from modelc.pipeline.step import StepContext
from modelc.pipeline.steps import source_root
from modelc.pipeline.steps_binaries import TIMEOUT_S
from modelc.pipeline.steps_graphs import ENCODINGS

if TYPE_CHECKING:
    import onnx_ir as ir

ATTENTION: Final = "attention.json"
FORMS: Final = {"grouped": (), "sha": ("htp-sha",)}


def compare_attention(context: StepContext) -> None:
    """Compile the first layer, at the longest AR and context length, with grouped attention and
    with a branch for each head: attention.json with the spill-fill bytes of both, read back.

    Options: chipset, fp16, graph, layers, weights (module -> kind).
    """
    from modelc.ir.write import write_model
    from modelc.targets.snapdragon.chipsets import find_chipset
    from modelc.targets.snapdragon.compile import CompileOptions, compile_graphs

    found = {}
    for index, form in enumerate(FORMS):
        folder = context.scratch / form
        folder.mkdir()
        write_model(_first_layer(context, form), folder / "layer.onnx")
        made = compile_graphs(
            {form: folder / "layer.onnx"},
            find_chipset(context.options["chipset"]),
            CompileOptions(fp16=context.options["fp16"]),
            folder / "layer.bin",
            workdir=folder / "work",
            timeout_s=TIMEOUT_S,
        )
        found[form] = made.info.graphs[0].spill_fill_bytes
        context.progress((index + 1) / len(FORMS), form)
    document = {"graph": context.options["graph"], "spill_fill_bytes": found}
    (context.out / ATTENTION).write_text(json.dumps(document, indent=1) + "\n")


def _first_layer(context: StepContext, form: str) -> ir.Model:
    from modelc.decoder.parts import DecoderPart
    from modelc.ir.encodings import load
    from modelc.ir.serial import load_graph
    from modelc.passes.base import run_passes
    from modelc.passes.htp.quantise import Quantise
    from modelc.passes.htp.split import split_decoder
    from modelc.passes.pipelines import build_pipeline

    graph, layers = context.options["graph"], context.options["layers"]
    folder = context.inputs[f"prepare_exports.{graph}"]
    whole = load_graph(folder / f"{graph}.onnx", source_root(context))
    rest = DecoderPart(1, layers, head=True)
    parts = [DecoderPart(0, 0, embedding=True), DecoderPart(0, 1), rest]
    model = split_decoder(whole, parts)[1]
    passes = [step for name in FORMS[form] for step in build_pipeline(name, {})]
    if "encodings" in context.inputs:
        encodings = load(context.inputs["encodings"] / ENCODINGS)
        passes.append(Quantise(encodings, context.options["weights"]))
    model, _ = run_passes(model, passes, graph=f"{graph}.{form}")
    return model
