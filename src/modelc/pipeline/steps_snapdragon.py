"""The steps of Snapdragon targets: calibrate, lower, compile; see `family_snapdragon`.

Each is a function of a `StepContext`; heavy packages are imported when it runs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from modelc.bundle.tokenizer import TOKENIZER, load_tokenizer
from modelc.errors import BadInput
from modelc.pipeline.job import CALIBRATION_TEXT
from modelc.pipeline.step import StepContext
from modelc.pipeline.steps import CONFIG, IR

if TYPE_CHECKING:
    from modelc.targets.snapdragon.binary import BinaryInfo

RANGES: Final = "ranges.json"
ENCODINGS: Final = "encodings.json"
MODEL: Final = "model.onnx"
BINARY: Final = "decoder_1_of_1.bin"
INFO: Final = "binary.json"
GENIE_CONFIG: Final = "genie_config.json"
# Seen in the simulator: RMSNorm of [1, AR, heads, width] is wrong in fp16 for narrower ones.
NARROWEST_FP16_NORM: Final = 64
TIMEOUT_S: Final = 4 * 3600.0


def check(context: StepContext) -> None:
    """Refuse what the static graphs can't be, before anything long runs.

    Options: ar (a list), fp16.

    Raises:
        BadInput: says all that is in the way.
    """
    from modelc.decoder.architectures import find_architecture
    from modelc.decoder.config import load_config
    from modelc.pipeline.steps import read_facts

    length = read_facts(context)["context_length"]
    config = load_config(context.inputs["import"] / CONFIG)
    problems, hints = [], []
    for ar in context.options["ar"]:
        if ar >= length:
            problems.append(f"AR-{ar} does not fit a context of {length}")
        elif 2 * ar == length:
            # Genie can't tell the past from the new tokens by their sizes then, and mixes them up.
            problems.append(f"AR-{ar} is half of a context of {length}, which Genie misreads")
    if problems:
        hints.append("choose another --ar or --context-length")
    head_norms = find_architecture(config.architecture).head_norms
    if context.options["fp16"] and head_norms and config.head_dim < NARROWEST_FP16_NORM:
        problems.append(f"HTP gets fp16 norms of heads {config.head_dim} wide wrong")
        hints.append("use --quant w8a16")
    if window := min((w for w in config.windows if 0 < w < length), default=0):
        problems.append(
            f"layers attend to windows of {window} of {length} positions; "
            "Genie gives all layers one mask"
        )
        hints.append(f"use --context-length {window}")
    if problems:
        raise BadInput("; ".join(problems), hint="; ".join(hints))


def calibrate(context: StepContext) -> None:
    """Gather the range of every tensor of the expanded graph: ranges.json.

    Options: samples, sequence_length.
    """
    from modelc.passes.base import run_passes
    from modelc.passes.pipelines import build_pipeline
    from modelc.pipeline.steps import canonical_graph, read_facts, text_tokens
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
    """Choose every tensor's encoding from its range: encodings.json, the same for all AR lengths.

    Options: scheme.
    """
    from modelc.ir import encodings
    from modelc.quant.calibrate import activation_encodings
    from modelc.quant.ranges import load_ranges
    from modelc.quant.schemes import SCHEMES

    ranges = load_ranges(context.inputs["calibrate"] / RANGES)
    chosen = activation_encodings(ranges, SCHEMES[context.options["scheme"]])
    encodings.save(chosen, context.out / ENCODINGS)


def lower(context: StepContext) -> None:
    """Make the static graph of one AR length: model.onnx, its data, and ir/ with the text forms;
    quantised if there are encodings.

    Options: ar.
    """
    from modelc.ir import encodings
    from modelc.ir.write import write_model
    from modelc.passes.base import run_passes
    from modelc.passes.pipelines import build_pipeline
    from modelc.pipeline.steps import canonical_graph, read_facts

    ar, length = context.options["ar"], read_facts(context)["context_length"]
    settings: dict[str, Any] = {"ar": ar, "context_length": length}
    pipeline = "htp-float"
    if "encodings" in context.inputs:
        pipeline = "htp-quantised"
        settings["encodings"] = encodings.load(context.inputs["encodings"] / ENCODINGS)
    model, _ = run_passes(
        canonical_graph(context),
        build_pipeline(pipeline, settings),
        graph=f"ar{ar}",
        dump_dir=context.out / IR,
    )
    write_model(model, context.out / MODEL)


def compile_twin(context: StepContext) -> None:
    """Compile one AR length alone, for the simulator: NAME.bin and its wrapper NAME.onnx.

    Options: chipset, fp16, ar.
    """
    from modelc.pipeline.steps import read_facts

    ar = context.options["ar"]
    name = graph_name(ar, read_facts(context)["context_length"])
    _compile(context, {name: context.inputs[f"lower.ar{ar}"] / MODEL}, f"{name}.bin")


def compile_binary(context: StepContext) -> None:
    """Compile what ships: one binary with shared weights, or one per AR length where the chipset
    can't share; binary.json says what was read back from each.

    Options: chipset, fp16, ar (a list).
    """
    from modelc.pipeline.steps import read_facts
    from modelc.targets.snapdragon.binary import to_json
    from modelc.targets.snapdragon.chipsets import find_chipset

    length = read_facts(context)["context_length"]
    graphs = {
        graph_name(ar, length): context.inputs[f"lower.ar{ar}"] / MODEL
        for ar in context.options["ar"]
    }
    if find_chipset(context.options["chipset"]).weight_sharing:
        infos = {BINARY: _compile(context, graphs, BINARY)}
    else:
        infos = {
            f"{name}.bin": _compile(context, {name: model}, f"{name}.bin")
            for name, model in graphs.items()
        }
    document = {name: to_json(info) for name, info in infos.items()}
    (context.out / INFO).write_text(json.dumps(document, indent=1) + "\n")
    _write_genie_files(context, list(infos), length)


def _write_genie_files(context: StepContext, binaries: list[str], length: int) -> None:
    """Write genie_config.json, which Genie itself checks, and htp_backend_ext_config.json."""
    from modelc.decoder.config import load_config
    from modelc.targets.snapdragon.chipsets import find_chipset
    from modelc.targets.snapdragon.genie import check_genie_config
    from modelc.targets.snapdragon.genie_config import (
        EXTENSION_FILE,
        extension_config,
        genie_config,
        genie_model,
    )

    tokenizer = load_tokenizer(context.inputs["import"]).data
    model = genie_model(
        load_config(context.inputs["import"] / CONFIG),
        context_length=length,
        binaries=binaries,
        eos_ids=tokenizer.eos_ids,
        bos_id=tokenizer.bos_id if tokenizer.add_bos else None,
        tokenizer=TOKENIZER,
    )
    config = genie_config(model)
    check_genie_config(config, workdir=context.scratch / "genie")
    extension = extension_config(find_chipset(context.options["chipset"]))
    for name, document in ((GENIE_CONFIG, config), (EXTENSION_FILE, extension)):
        (context.out / name).write_text(json.dumps(document, indent=2) + "\n")


def graph_name(ar: int, context_length: int) -> str:
    """Return the name of the graph of one AR length."""
    from modelc.targets.snapdragon.graph_names import GraphKey

    return GraphKey(ar, context_length, 1, 1).name


def _compile(context: StepContext, graphs: Mapping[str, Path], binary: str) -> BinaryInfo:
    """Compile graphs into `binary` in the step's result, with its wrapper if there is one graph."""
    from modelc.targets.snapdragon.chipsets import find_chipset
    from modelc.targets.snapdragon.compile import CompileOptions, compile_graphs

    made = compile_graphs(
        graphs,
        find_chipset(context.options["chipset"]),
        CompileOptions(fp16=context.options["fp16"]),
        context.scratch / "out" / binary,
        workdir=context.scratch / "work",
        timeout_s=TIMEOUT_S,
    )
    shutil.move(made.binary, context.out / binary)
    if len(graphs) == 1:
        for name, wrapper in made.wrappers.items():
            shutil.move(wrapper, context.out / f"{name}.onnx")
    return made.info
