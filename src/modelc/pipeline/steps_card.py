"""Cloud AI 100's steps: lower the decoder, prepare the compiler's files, run the compiler."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from modelc.errors import BadInput, Where
from modelc.pipeline.step import StepContext

if TYPE_CHECKING:
    from modelc.targets.qaic.prepared import Prepared

CHUNK_BYTES: Final = 10 << 30
"""Of the files of weights, as the card's own exporter cuts them."""
_LARGEST_CONFIG: Final = 1 << 24


def lower_for_card(context: StepContext) -> None:
    """Write the decoder under the card's contract: model.onnx, its weights beside it, ir/ with the
    text forms.

    Options: context_length, graph (fields of QaicGraphOptions), adapters (how many).
    """
    from modelc.frontends import read_model
    from modelc.frontends.huggingface.adapter import read_adapter
    from modelc.ir.write import write_model
    from modelc.passes.qaic.build import build_card_graph
    from modelc.passes.qaic.options import QaicGraphOptions
    from modelc.pipeline.card_files import adapter_folders
    from modelc.pipeline.steps import IR
    from modelc.targets.qaic.prepared import MODEL

    folders = adapter_folders(context.options["adapters"], context.sources)
    options = QaicGraphOptions(
        **context.options["graph"], adapters=tuple(map(read_adapter, folders))
    )
    model = build_card_graph(
        read_model(context.source),
        context.options["context_length"],
        options,
        dump_dir=context.out / IR,
    )
    write_model(model, context.out / MODEL, chunk_bytes=CHUNK_BYTES)


def prepare_card(context: StepContext) -> None:
    """Write the compiler's files and commands.

    Options: toolchain, sdk_version, given (options of the plan), files (option -> the name under
    which this step reads its file).
    """
    from modelc.targets.qaic.prepared import MODEL

    prepared = _prepared(context, context.inputs["lower"] / MODEL)
    for name, text in prepared.texts().items():
        (context.out / name).write_text(text)


def compile_card(context: StepContext) -> None:
    """Run the vendor's compiler on what was prepared, if it was verified: qpc/, qpc.json."""
    from modelc.pipeline.steps import VERIFICATION
    from modelc.targets.qaic.prepared import (
        BINARY_DIR,
        compile_prepared,
        find_toolchain,
        read_prepared,
    )
    from modelc.targets.qaic.record import RECORD

    verification = json.loads((context.inputs["verify"] / VERIFICATION).read_text())
    if not verification["passed"]:
        context.log("not compiled: the graph is too far from the float model")
        return
    prepared = read_prepared(context.inputs["prepare"])
    for folder in (context.inputs["lower"], context.inputs["prepare"]):
        for path in folder.iterdir():
            if path.is_file():
                _link(path, context.scratch / path.name)
    context.log(f"{prepared.commands[0][0]} runs, which may take hours")
    compile_prepared(context.scratch, prepared, find_toolchain(prepared, os.environ))
    shutil.move(context.scratch / BINARY_DIR, context.out / BINARY_DIR)
    shutil.move(context.scratch / RECORD, context.out / RECORD)


def _prepared(context: StepContext, model: Path) -> Prepared:
    """Plan with paths inside of the folder."""
    from modelc.targets.qaic import qpc
    from modelc.targets.qaic.options import read_options
    from modelc.targets.qaic.prepared import MODEL, SDK, Prepared
    from modelc.targets.qaic.qnn_config import check_config
    from modelc.targets.qaic.qnn_route import plan_qnn_of
    from modelc.targets.qaic.source import read_source

    options = context.options
    given = dict(options["given"])
    paths = {option: context.sources[name] for option, name in options["files"].items()}
    if options["toolchain"] == "qnn":
        config = check_config(_json(paths["qnn_config"]) if "qnn_config" in paths else {})
        made = plan_qnn_of(model, Path(MODEL), Path(), Path(SDK), config, read_options(given))
        return Prepared("qnn", "", made.argv, made.files, {**given, "qnn_config": dict(config)})
    names = {option: path.name for option, path in paths.items()}
    given |= names
    source = replace(read_source(model, ""), onnx=MODEL)
    planned = qpc.plan_of(source, "", options["sdk_version"], read_options(given), given)
    program = planned.argv[0].replace(qpc.SDK, SDK)
    files = planned.files | {path.name: _text(path) for path in paths.values()}
    return Prepared(
        "apps", options["sdk_version"], [[program, *planned.argv[1:]]], files, planned.options
    )


def _link(path: Path, target: Path) -> None:
    """Have a file in another place too, without its bytes where the disk can."""
    try:
        os.link(path, target)
    except OSError:
        target.symlink_to(path.resolve())


def _json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise BadInput("not JSON", where=Where(path=str(path))) from error
    if not isinstance(document, dict):
        raise BadInput("no JSON object", where=Where(path=str(path)))
    return document


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST_CONFIG:
            raise BadInput("too large for what it is", where=Where(path=str(path)))
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadInput("not a UTF-8 text", where=Where(path=str(path))) from error
