"""Which frontend reads a path, and the calls that all of them answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from modelc.decoder.config import DecoderModel, DecoderSource
from modelc.errors import BadInput, Where
from modelc.frontends.gguf import source as gguf
from modelc.frontends.gguf.container import is_gguf
from modelc.frontends.huggingface import source as huggingface
from modelc.frontends.networks import network_kind
from modelc.frontends.stored import Description


@dataclass(frozen=True)
class Frontend:
    """How one kind of source is read.

    Attributes:
        read: the decoder that the source holds.
        read_model: the same without its tokenizer.
        files: every file whose contents matter, sorted.
        describe: what the source says of itself, whatever its architecture.
    """

    name: str
    read: Callable[[Path], DecoderSource]
    read_model: Callable[[Path], DecoderModel]
    files: Callable[[Path], tuple[Path, ...]]
    describe: Callable[[Path], Description]


FRONTENDS: Final[Mapping[str, Frontend]] = {
    row.name: row
    for row in (
        Frontend("gguf", gguf.read_source, gguf.read_model, gguf.source_files, gguf.describe),
        Frontend(
            "huggingface",
            huggingface.read_source,
            huggingface.read_model,
            huggingface.source_files,
            huggingface.describe,
        ),
    )
}


def detect(path: Path) -> str:
    """Return which of FRONTENDS reads `path`: a folder is Hugging Face's, a file is told by its
    first bytes.

    Raises:
        BadInput: there is nothing at the path, or something else.
    """
    if any("\ud800" <= character <= "\udfff" for character in str(path)):
        raise BadInput(
            "the path is not valid Unicode",
            where=Where(path=str(path).encode("utf-8", "replace").decode()),
            hint="rename it, or use a UTF-8 locale (PYTHONUTF8=1)",
        )
    if network_kind(path):
        raise BadInput(
            "its architecture is no decoder's: this takes language models",
            where=Where(path=str(path)),
            hint="compile, run, verify, profile, inspect and debug take it",
        )
    if not path.exists():
        raise BadInput(
            "there is no such file or folder",
            where=Where(path=str(path)),
            hint="give a .gguf file or a Hugging Face folder",
        )
    if path.is_dir():
        if (path / huggingface.CONFIG).is_file():
            return "huggingface"
        raise BadInput(
            "the folder has no config.json",
            where=Where(path=str(path)),
            hint="give the folder that holds config.json, or a .gguf file itself",
        )
    if path.is_file() and is_gguf(path):
        return "gguf"
    beside = path.suffix == ".safetensors" and (path.parent / huggingface.CONFIG).is_file()
    raise BadInput(
        "not a GGUF file",
        where=Where(path=str(path)),
        hint=f"give the folder {path.parent}" if beside else "it must begin with GGUF",
    )


def read_source(path: Path) -> DecoderSource:
    """Return the decoder at `path`, weights left in their files.

    Raises:
        BadInput: with the place and what to do.
    """
    with _placed_at(path):
        return FRONTENDS[detect(path)].read(path)


def read_model(path: Path) -> DecoderModel:
    """Return the decoder at `path` without its tokenizer, which takes longer than all the rest.

    Raises:
        BadInput: with the place and what to do.
    """
    with _placed_at(path):
        return FRONTENDS[detect(path)].read_model(path)


@contextmanager
def _placed_at(path: Path) -> Iterator[None]:
    """Errors that name no file are the source's."""
    try:
        yield
    except BadInput as error:
        if error.where.path:
            raise
        place = replace(error.where, path=str(path))
        raise BadInput(error.message, where=place, hint=error.hint) from error


def source_files(path: Path) -> tuple[Path, ...]:
    """Return every file whose contents the source at `path` depends on, sorted."""
    return FRONTENDS[detect(path)].files(path)


def describe(path: Path) -> Description:
    """Return metadata and tensors of the source at `path`; its architecture need not be known."""
    return FRONTENDS[detect(path)].describe(path)
