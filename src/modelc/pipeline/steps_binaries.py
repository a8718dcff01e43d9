"""The compiling steps of Snapdragon targets: convert, generate_context_binary, twins.

A part's graphs become one binary that shares their weights, or one each where the chipset can't.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from modelc.ir.arrays import load_arrays
from modelc.pipeline.step import StepContext
from modelc.pipeline.steps import CONFIG
from modelc.pipeline.steps_samples import SAMPLES
from modelc.targets.snapdragon.binary import BinaryInfo, to_json

if TYPE_CHECKING:
    from modelc.targets.snapdragon.proof import Trial
    from modelc.targets.snapdragon.rotary import Rotary

INFO: Final = "binary.json"
PROOF: Final = "proof.json"
ATTENTION: Final = "attention.json"
TIMEOUT_S: Final = 4 * 3600.0


def convert(context: StepContext) -> None:
    """Write every graph of one part as a DLC: NAME.dlc.

    Options: chipset, fp16, graphs (names), scheme.
    """
    from modelc.targets.snapdragon.chipsets import find_chipset
    from modelc.targets.snapdragon.compile import CompileOptions
    from modelc.targets.snapdragon.dlc_write import write_dlc

    (lowered,) = context.inputs.values()
    graphs = context.options["graphs"]
    for index, name in enumerate(graphs):
        write_dlc(
            lowered / f"{name}.onnx",
            name,
            find_chipset(context.options["chipset"]),
            CompileOptions(fp16=context.options["fp16"]),
            context.out / f"{name}.dlc",
            workdir=context.scratch / "work",
            timeout_s=TIMEOUT_S,
            scheme=context.options["scheme"],
        )
        context.progress((index + 1) / len(graphs), name)


def generate_context_binary(context: StepContext) -> None:
    """Compile one part: decoder_I_of_N.bin, a wrapper for each graph, and decoder_I_of_N.json with
    the settings of its graphs, by the names that they have in the binary.

    Before it is closed, the compiler runs the part's graphs that are cheap enough on samples of the
    float model's tensors, if there are any: proof.json says how close it came. binary.json says
    what was read back from each binary.

    Options: chipset, fp16, part, graphs (names), context_length (the longest), most_seconds (of
        the simulator, for a graph to be run).
    """
    from modelc.targets.snapdragon.chipsets import find_chipset
    from modelc.targets.snapdragon.contract import check_contract

    part, graphs = context.options["part"], context.options["graphs"]
    lowered = context.inputs[f"quantize.{part}"]
    models = {name: lowered / f"{name}.onnx" for name in graphs}
    if find_chipset(context.options["chipset"]).weight_sharing:
        sets = {f"decoder_{part}.bin": models}
    else:
        sets = {f"{name}.bin": {name: model} for name, model in models.items()}
    check_contract(models)
    tried = _trials(context, models) if "samples" in context.inputs else {}
    infos: dict[str, Any] = {}
    proofs: dict[str, Any] = {}
    for binary, chosen in sets.items():
        chosen_trials = {name: trial for name, trial in tried.items() if name in chosen}
        info, proved = _compile(context, chosen, binary, chosen_trials)
        infos[binary] = to_json(info)
        proofs |= proved
        write_json(context.out / f"{Path(binary).stem}.json", binary_settings(context, info))
    write_json(context.out / INFO, infos)
    write_json(context.out / PROOF, proofs)


def compile_twin(context: StepContext) -> None:
    """Compile one graph alone, for the simulator: NAME.bin and its wrapper NAME.onnx.

    Options: chipset, fp16, graph.
    """
    from modelc.targets.snapdragon.contract import check_contract

    (lowered,) = context.inputs.values()
    name = context.options["graph"]
    models = {name: lowered / f"{name}.onnx"}
    check_contract(models)
    _compile(context, models, f"{name}.bin", {})


def binary_settings(context: StepContext, info: BinaryInfo) -> dict[str, Any]:
    """Return a binary's settings in the words of QNN's HTP backend; inputs and outputs lie in
    memory that the HTP shares."""
    from modelc.targets.snapdragon.chipsets import find_chipset
    from modelc.targets.snapdragon.compile import CompileOptions
    from modelc.targets.snapdragon.htp_config import htp_config

    return htp_config(
        [graph.name for graph in info.graphs],
        find_chipset(context.options["chipset"]),
        fp16=context.options["fp16"],
        optimization=CompileOptions().finalization,
        shared_buffers=True,
    )


def _trials(context: StepContext, models: Mapping[str, Path]) -> dict[str, Trial]:
    from modelc.targets.snapdragon.proof import trials

    samples = load_arrays(context.inputs["samples"] / SAMPLES)
    return trials(models, samples, read_rotary(context), context.options["most_seconds"])


def _compile(
    context: StepContext, models: Mapping[str, Path], binary: str, tried: Mapping[str, Trial]
) -> tuple[BinaryInfo, dict[str, Any]]:
    """Compile graphs into `binary` in the step's result, each with its wrapper beside it; return
    what was read back from it, and how close the graphs came that are tried."""
    from modelc.targets.snapdragon.chipsets import find_chipset
    from modelc.targets.snapdragon.compile import CompileOptions, compile_graphs
    from modelc.targets.snapdragon.proof import compare

    made = compile_graphs(
        models,
        find_chipset(context.options["chipset"]),
        CompileOptions(fp16=context.options["fp16"]),
        context.scratch / "out" / binary,
        workdir=context.scratch / "work",
        timeout_s=TIMEOUT_S,
        feeds={name: trial.feed for name, trial in tried.items()},
    )
    shutil.move(made.binary, context.out / binary)
    for name, wrapper in made.wrappers.items():
        shutil.move(wrapper, context.out / f"{name}.onnx")
    for name, seconds in made.seconds.items():
        context.log(f"{name} compiled in {seconds:.1f} s")
    if tried:
        context.log(f"{len(tried)} graphs tried in the simulator in {made.run_seconds:.1f} s")
    proofs = {name: compare(trial, made.results[name]) for name, trial in tried.items()}
    return made.info, proofs


def read_rotary(context: StepContext) -> Rotary:
    """Return the model's rotary embedding at the longest context."""
    from modelc.decoder.config import load_config
    from modelc.targets.snapdragon.rotary import rotary_of

    config = load_config(context.inputs["import"] / CONFIG)
    return rotary_of(config, context.options["context_length"])


def write_json(path: Path, document: Any) -> None:
    """Write a small document."""
    path.write_text(json.dumps(document, indent=1) + "\n")
