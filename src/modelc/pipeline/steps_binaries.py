"""The compiling steps of Snapdragon targets: convert, generate_context_binary, twins, Genie's files.

A part's graphs become one binary that shares their weights, or one each where the chipset can't.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from modelc.bundle.tokenizer import TOKENIZER, load_tokenizer
from modelc.pipeline.step import StepContext
from modelc.pipeline.steps import CONFIG
from modelc.pipeline.steps_samples import SAMPLES, load_samples
from modelc.targets.snapdragon.binary import BinaryInfo, from_json, to_json

if TYPE_CHECKING:
    from modelc.targets.snapdragon.rotary import Rotary

INFO: Final = "binary.json"
PROOF: Final = "proof.json"
GENIE_CONFIG: Final = "genie_config.json"
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
    """Compile one part: decoder_I_of_N.bin and a wrapper for each graph.

    Before it is closed, the compiler runs the graphs that are cheap enough on samples of the float
    model's tensors: proof.json says how close it came. binary.json says what was read back from
    each binary, and the settings that the runtime needs with it.

    Options: chipset, fp16, part, graphs (names), context_length (the longest), most_macs (of a
        graph that is run).
    """
    from modelc.targets.snapdragon.chipsets import find_chipset

    part, graphs = context.options["part"], context.options["graphs"]
    lowered = context.inputs[f"quantize.{part}"]
    models = {name: lowered / f"{name}.onnx" for name in graphs}
    if find_chipset(context.options["chipset"]).weight_sharing:
        sets = {f"decoder_{part}.bin": models}
    else:
        sets = {f"{name}.bin": {name: model} for name, model in models.items()}
    infos: dict[str, Any] = {}
    proofs: dict[str, Any] = {}
    for binary, chosen in sets.items():
        info, proved = _compile(context, chosen, binary, prove=True)
        infos[binary] = to_json(info)
        proofs |= proved
    _write_json(context.out / INFO, infos)
    _write_json(context.out / PROOF, proofs)


def compile_twin(context: StepContext) -> None:
    """Compile one graph alone, for the simulator: NAME.bin and its wrapper NAME.onnx.

    Options: chipset, fp16, graph.
    """
    (lowered,) = context.inputs.values()
    name = context.options["graph"]
    _compile(context, {name: lowered / f"{name}.onnx"}, f"{name}.bin", prove=False)


def describe_binaries(context: StepContext) -> None:
    """Join what is known of all parts, and write the files by which a runtime takes them:
    binary.json, proof.json; for "genie" genie_config.json, which Genie itself checks,
    htp_backend_ext_config.json and a sample prompt; for "ort" ort_pipeline.json.

    Options: chipset, context_length, parts, format.

    Raises:
        ModelcError: what one part gives is not what the next one takes.
    """
    from modelc.targets.snapdragon.chain import check_chain

    infos: dict[str, Any] = {}
    proofs: dict[str, Any] = {}
    for part in context.options["parts"]:
        folder = context.inputs[f"generate_context_binary.{part}"]
        infos |= json.loads((folder / INFO).read_text())
        proofs |= json.loads((folder / PROOF).read_text())
    _write_json(context.out / INFO, infos)
    _write_json(context.out / PROOF, proofs)
    check_chain([from_json(info) for info in infos.values()])
    if "genie" in context.options["format"]:
        _write_genie_files(context, list(infos))


def _write_genie_files(context: StepContext, binaries: list[str]) -> None:
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
        context_length=context.options["context_length"],
        binaries=binaries,
        eos_ids=tokenizer.eos_ids,
        bos_id=tokenizer.bos_id if tokenizer.add_bos else None,
        tokenizer=TOKENIZER,
    )
    config = genie_config(model)
    check_genie_config(config, workdir=context.scratch / "genie")
    _write_json(context.out / GENIE_CONFIG, config)
    extension = extension_config(find_chipset(context.options["chipset"]))
    _write_json(context.out / EXTENSION_FILE, extension)


def _compile(
    context: StepContext, models: Mapping[str, Path], binary: str, *, prove: bool
) -> tuple[BinaryInfo, dict[str, Any]]:
    """Compile graphs into `binary` in the step's result, each with its wrapper beside it."""
    from modelc.targets.snapdragon.chipsets import find_chipset
    from modelc.targets.snapdragon.compile import CompileOptions, compile_graphs
    from modelc.targets.snapdragon.proof import compare, trials

    tried = {}
    if prove:
        samples = load_samples(context.inputs["samples"] / SAMPLES)
        rotary = read_rotary(context)
        tried = trials(models, samples, rotary, context.options["most_macs"])
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
    proofs = {name: compare(trial, made.results[name]) for name, trial in tried.items()}
    return made.info, proofs


def read_rotary(context: StepContext) -> Rotary:
    """Return the model's rotary embedding at the longest context."""
    from modelc.decoder.config import load_config
    from modelc.targets.snapdragon.rotary import rotary_of

    config = load_config(context.inputs["import"] / CONFIG)
    return rotary_of(config, context.options["context_length"])


def _write_json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, indent=1) + "\n")
