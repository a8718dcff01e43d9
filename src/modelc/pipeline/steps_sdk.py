"""The steps that an installed QAIRT SDK does: convert, quantize, generate_context_binary; the float
graphs that it begins with, and the script that repeats its part.

In a step's work folder every file lies where the script has it (`targets.snapdragon.sdk.parts`).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from modelc.errors import Missing
from modelc.pipeline.step import StepContext
from modelc.pipeline.steps import IR
from modelc.pipeline.steps_binaries import INFO, PROOF, TIMEOUT_S, binary_settings, write_json
from modelc.pipeline.steps_graphs import WEIGHTS, load_part
from modelc.targets.snapdragon.sdk.command import Command, run_commands
from modelc.targets.snapdragon.sdk.convert import ConverterOptions
from modelc.targets.snapdragon.sdk.convert import convert as conversion
from modelc.targets.snapdragon.sdk.find import Sdk, find_sdk
from modelc.targets.snapdragon.sdk.generate import GeneratorOptions, generate, generator_configs
from modelc.targets.snapdragon.sdk.parts import (
    BINARIES,
    CONVERTED,
    NETWORKS,
    QUANTIZED,
    GraphFiles,
    SplitFiles,
    binary_file,
)
from modelc.targets.snapdragon.sdk.quantize import QuantizerOptions
from modelc.targets.snapdragon.sdk.quantize import quantize as quantisation

if TYPE_CHECKING:
    from modelc.targets.snapdragon.chipsets import Chipset

SCRIPT: Final = "commands.sh"
_NOTES: Final = f"""\
The float graphs NAME.onnx of a part lie in {NETWORKS}/decoder_PART with their weights in one
file, {WEIGHTS}, and NAME.encodings, the encodings of their tensors. They are as large as the
model in float32, so they are not kept with this script; `modelc step float_graphs` writes them."""


def write_float_graphs(context: StepContext) -> None:
    """Write one part for the converter: NAME.onnx of each graph, their float weights in one file,
    and NAME.encodings of all tensors, weights included.

    Options: part, graphs (name -> step that it comes from).
    """
    from modelc.ir.write import write_models
    from modelc.passes.base import run_passes
    from modelc.passes.pipelines import build_pipeline

    graphs, models = context.options["graphs"], {}
    for name, step in graphs.items():
        passes = build_pipeline("htp-plain", {})
        model, _ = run_passes(
            load_part(context, step, name), passes, graph=name, dump_dir=context.out / IR / name
        )
        models[context.out / f"{name}.onnx"] = model
    write_models(models, context.out / WEIGHTS)
    if lowered := context.inputs.get(f"lowered.{context.options['part']}"):
        for name in graphs:
            shutil.copyfile(lowered / f"{name}.encodings", context.out / f"{name}.encodings")


def convert(context: StepContext) -> None:
    """Convert one part's float graphs: NAME.dlc of each, its encodings in it.

    Options: sdk (its release), chipset, fp16, part, graphs (names).
    """
    part, sdk = context.options["part"], _sdk(context)
    commands = [conversion(graph, sdk, ConverterOptions()) for graph in _graphs(context)]
    folders = {network_folder(part): context.inputs[f"float_graphs.{part}"], CONVERTED: context.out}
    _run(context, commands, sdk, folders)


def quantize(context: StepContext) -> None:
    """Quantise one part's DLCs by the encodings in them: NAME.dlc of each.

    Options: as of `convert`.
    """
    part, sdk = context.options["part"], _sdk(context)
    commands = [quantisation(graph, sdk, QuantizerOptions()) for graph in _graphs(context)]
    folders = {CONVERTED: context.inputs[f"convert.{part}"], QUANTIZED: context.out}
    _run(context, commands, sdk, folders)


def generate_context_binary(context: StepContext) -> None:
    """Compile one part's DLCs: decoder_I_of_N.bin and its settings, decoder_I_of_N.json, as
    `steps_binaries.generate_context_binary` does.

    Nothing here can run what the SDK made: proof.json is empty, and every binary is held to what
    can be read back from it, and to the tensors of the graphs that are verified in its place.

    Options: as of `convert`.

    Raises:
        ToolFailed: a binary is not what was asked for.
    """
    from modelc.targets.snapdragon.binary import read_binary, to_json
    from modelc.targets.snapdragon.chipsets import find_chipset
    from modelc.targets.snapdragon.sdk.check import check_made

    part, sdk = context.options["part"], _sdk(context)
    chipset = find_chipset(context.options["chipset"])
    options, infos = GeneratorOptions(), {}
    sets = _binaries(context.options, part, context.options["graphs"], chipset)
    for files in sets:
        before = (CONVERTED, "convert") if context.options["fp16"] else (QUANTIZED, "quantize")
        folders = {before[0]: context.inputs[f"{before[1]}.{part}"], BINARIES: context.out}
        configs = generator_configs(files, chipset, sdk, options)
        _run(context, [generate(files, sdk, options)], sdk, folders, configs)
        binary = context.out / Path(binary_file(files)).name
        info = read_binary(binary, workdir=context.scratch / "read")
        lowered = context.inputs[f"lowered.{part}"]
        graphs = {graph.key.name: lowered / f"{graph.key.name}.onnx" for graph in files.graphs}
        check_made(info, chipset, graphs, binary.name)
        infos[binary.name] = to_json(info)
        write_json(binary.with_suffix(".json"), binary_settings(context, info))
    write_json(context.out / INFO, infos)
    write_json(context.out / PROOF, {})


def write_script(context: StepContext) -> None:
    """Write what repeats the SDK's part without modelc: commands.sh and configs/.

    Options: sdk, chipset, fp16, parts (part -> names of its graphs).
    """
    from modelc.targets.snapdragon.chipsets import find_chipset
    from modelc.targets.snapdragon.sdk.model import sdk_commands
    from modelc.targets.snapdragon.sdk.script import commands_sh

    chipset = find_chipset(context.options["chipset"])
    parts = [
        files
        for part, graphs in context.options["parts"].items()
        for files in _binaries(context.options, part, graphs, chipset)
    ]
    made = sdk_commands(parts, chipset, _sdk(context))
    _write(context.out, made.configs)
    (context.out / SCRIPT).write_text(commands_sh(made.commands, _NOTES))


def network_folder(part: str) -> str:
    """Return where a part's float graphs lie in a work folder."""
    return f"{NETWORKS}/decoder_{part}"


def _sdk(context: StepContext) -> Sdk:
    """Raises Missing: there is no SDK any more, or another than the plan was made with."""
    sdk, planned = find_sdk(os.environ), context.options["sdk"]
    if sdk.release != planned:
        raise Missing(f"the SDK is {sdk}, not {planned} any more", hint="run it again")
    return sdk


def _graphs(context: StepContext) -> tuple[GraphFiles, ...]:
    return _files(context.options, context.options["part"], context.options["graphs"])


def _files(options: Mapping[str, Any], part: str, graphs: Iterable[str]) -> tuple[GraphFiles, ...]:
    from modelc.targets.snapdragon.graph_names import parse

    folder = network_folder(part)
    return tuple(
        GraphFiles(
            parse(name),
            f"{folder}/{name}.onnx",
            None if options["fp16"] else f"{folder}/{name}.encodings",
        )
        for name in graphs
    )


def _binaries(
    options: Mapping[str, Any], part: str, graphs: Iterable[str], chipset: Chipset
) -> list[SplitFiles]:
    """Return a part's graphs as they go into binaries: all in one, or one each where the chipset
    can't share weights."""
    files = _files(options, part, graphs)
    if chipset.weight_sharing:
        return [SplitFiles(f"decoder_{part}", files)]
    return [SplitFiles(graph.key.name, (graph,)) for graph in files]


def _run(
    context: StepContext,
    commands: Sequence[Command],
    sdk: Sdk,
    folders: Mapping[str, Path],
    configs: Mapping[str, str] | None = None,
) -> None:
    """Run commands in a work folder that has these folders and files in it."""
    work = Path(tempfile.mkdtemp(prefix="work-", dir=context.scratch))
    for name, folder in folders.items():
        link = work / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(folder.resolve(), target_is_directory=True)
    _write(work, configs or {})
    logs = Path(tempfile.mkdtemp(prefix="modelc-sdk-"))
    for index, command in enumerate(commands):
        run_commands([command], sdk, work, logs=logs, timeout_s=TIMEOUT_S)
        context.progress((index + 1) / len(commands), command.graph)
    shutil.rmtree(logs)  # kept where a tool failed: the error names it


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
