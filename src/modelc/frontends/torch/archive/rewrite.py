"""From an archive of a stranger's to one of our own, which PyTorch can be given."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from modelc.errors import BadInput
from modelc.frontends.torch.archive.container import (
    BYTE_ORDER,
    CONSTANTS,
    FORMAT,
    MODELS,
    VERSION,
    WEIGHTS,
    Container,
    open_container,
)
from modelc.frontends.torch.archive.program import read_program
from modelc.frontends.torch.archive.tensors import entries_of, read_payloads
from modelc.frontends.torch.archive.trees import Tree

NAME: Final = "model"
"""What torch.export.load calls the program."""

_CHUNK: Final = 1 << 20
_ZIP64: Final = 1 << 31
_PREFIXES: Final[Mapping[str, str]] = {WEIGHTS: "weight", CONSTANTS: "tensor"}


def rewrite(source: Path, dims: Mapping[str, int], target: Path) -> Tree:
    """Write to `target` what of an archive is known to be harmless, its open sizes fixed, and
    return the tree of the program's results. PyTorch is not needed.

    Raises:
        BadInput: the archive can't be read, or holds something else.
    """
    try:
        with open_container(source) as archive:
            program = read_program(archive.json(f"{MODELS}{archive.model}.json"), dims)
            configs = {folder: _read_config(archive, folder) for folder in _PREFIXES}
            with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as made:
                _write(made, archive, program.json, configs)
            return program.results
    except BadInput as error:
        place = replace(error.where, path=str(source))
        raise BadInput(error.message, where=place, hint=error.hint) from error


def _read_config(archive: Container, folder: str) -> dict[str, Any]:
    config = archive.json(f"{folder}{archive.model}_{_kind(folder)}_config.json")
    return read_payloads(config, _PREFIXES[folder], lambda name: archive.size(f"{folder}{name}"))


def _kind(folder: str) -> str:
    return folder.strip("/").rpartition("/")[2]


def _write(
    made: zipfile.ZipFile,
    archive: Container,
    program: Mapping[str, Any],
    configs: Mapping[str, Mapping[str, Any]],
) -> None:
    def write(name: str, text: str) -> None:
        made.writestr(f"{NAME}/{name}", text)

    write(FORMAT, "pt2")
    write(VERSION, "0")
    write(BYTE_ORDER, "little")
    write(".data/version", "6\n")
    write(f"{MODELS}{NAME}.json", json.dumps(program))
    write(f"data/sample_inputs/{NAME}.pt", "")
    for folder, config in configs.items():
        write(f"{folder}{NAME}_{_kind(folder)}_config.json", json.dumps(config))
        for entry in entries_of(config):
            size = archive.size(f"{folder}{entry}") or 0
            with (
                archive.open(f"{folder}{entry}") as source,
                made.open(f"{NAME}/{folder}{entry}", "w", force_zip64=size >= _ZIP64) as target,
            ):
                shutil.copyfileobj(source, target, _CHUNK)
