"""Builds a model library, which older QNN runtimes load, with the tools of a QAIRT SDK.

qnn-onnx-converter writes the network as C++ (`NAME.cpp`) with its weights (`NAME.bin`), and
qnn-model-lib-generator compiles these. Both are documented in QAIRT's pages "Tools" and "Convert
to QNN": https://docs.qualcomm.com/bundle/publicresource/topics/80-63442-50/tools.html
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from modelc.errors import BadInput, Missing, Where, nearest
from modelc.files import is_safe_name
from modelc.targets.snapdragon.network.options import check_graph_name
from modelc.targets.snapdragon.sdk.command import Command, run_commands
from modelc.targets.snapdragon.sdk.find import PROGRAMS, Sdk

CONVERTER: Final = "qnn-onnx-converter"
LIBRARIAN: Final = "qnn-model-lib-generator"
STEP: Final = "model_library"

LIBRARY_TARGETS: Final = (
    "aarch64-android",
    "x86_64-linux-clang",
    "aarch64-oe-linux-gcc11.2",
    "aarch64-ubuntu-gcc9.4",
    "aarch64-oe-linux-gcc9.3",
)
"""What a library can be compiled for on Linux; which of them there are depends on the compilers
that the SDK finds."""


def library_file(name: str, target: str) -> str:
    """Return where a library will be in the work folder."""
    return f"lib/{target}/lib{name}.so"


def library_commands(
    model: str, name: str, targets: Sequence[str], *, encodings: str | None = None
) -> tuple[Command, ...]:
    """Return the runs that make `lib/TARGET/libNAME.so` for each target. Nothing is run.

    Args:
        model: the float ONNX file in the work folder.
        encodings: scales and offsets for it, in the work folder, in AIMET's form.

    Raises:
        BadInput: a name or target that can't be.
    """
    where = Where(step=STEP, graph=name)
    check_graph_name(name, where)
    for path in filter(None, (model, encodings)):
        if not is_safe_name(path):
            raise BadInput(f"{path!r} is not in the work folder", where=where)
    if not targets:
        raise BadInput("no target to build the library for", where=where)
    for target in targets:
        if target not in LIBRARY_TARGETS:
            raise BadInput(
                f"no model library can be built for {target!r}",
                where=where,
                hint=nearest(target, LIBRARY_TARGETS),
            )
    source, weights = f"cpp/{name}.cpp", f"cpp/{name}.bin"
    overrides = ("--quantization_overrides", encodings) if encodings else ()
    convert = Command(
        STEP,
        name,
        CONVERTER,
        ("--input_network", model, "--output_path", source, "--preserve_io", *overrides),
        inputs=tuple(filter(None, (model, encodings))),
        outputs=(source, weights),
    )
    build = (
        Command(
            STEP,
            f"{name}.{target}",
            LIBRARIAN,
            ("-c", source, "-b", weights, "-t", target, "-l", name, "-o", "lib"),
            inputs=(source, weights),
            outputs=(library_file(name, target),),
        )
        for target in targets
    )
    return (convert, *build)


def build_library(
    model: str,
    name: str,
    targets: Sequence[str],
    sdk: Sdk,
    folder: Path,
    *,
    logs: Path,
    timeout_s: float,
    encodings: str | None = None,
) -> tuple[Path, ...]:
    """Make a model library for each target in the work folder; return where they are.

    Raises:
        BadInput: as `library_commands`, or the model isn't in the work folder.
        Missing: the SDK has no such tools.
        ToolFailed: a tool failed.
    """
    commands = library_commands(model, name, targets, encodings=encodings)
    check_tools(sdk)
    run_commands(commands, sdk, folder, logs=logs, timeout_s=timeout_s)
    return tuple(folder / library_file(name, target) for target in targets)


def check_tools(sdk: Sdk) -> None:
    """Raises Missing if the SDK hasn't the tools that make model libraries."""
    for tool in (CONVERTER, LIBRARIAN):
        program = sdk.root / PROGRAMS / tool
        if not os.access(program, os.X_OK) or program.is_dir():
            raise Missing(
                f"{sdk.release} has no {tool} that can be run",
                where=Where(step=STEP, path=str(program)),
                hint="install the whole SDK for Linux, or take another format: `--format dlc`",
            )
