"""What a PyTorch source is: a function of the user's own, an exported program, or the folder of an
encoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modelc.errors import BadInput, Where
from modelc.frontends.fields import parse_json, read_text

CONFIG: Final = "config.json"
ARCHIVE: Final = ".pt2"

GENERATES: Final = ("ForCausalLM", "LMHeadModel")
"""Ends of the names of architectures that are decoders, which have a frontend of their own."""


@dataclass(frozen=True)
class BuilderSpec:
    """A callable in a Python file, which is executed: run only files that you trust.

    Attributes:
        function: a callable that takes nothing and gives a `torch.nn.Module`, a module and its
            example inputs, or a `torch.export.ExportedProgram`.
    """

    file: Path
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.function}"


@dataclass(frozen=True)
class EncoderSpec:
    """A Hugging Face folder of a model that generates no text, with weights as safetensors."""

    folder: Path

    def __str__(self) -> str:
        return str(self.folder)


@dataclass(frozen=True)
class ArchiveSpec:
    """An exported program as `torch.export.save` writes it. Nothing in it is executed."""

    file: Path

    def __str__(self) -> str:
        return str(self.file)


Spec = BuilderSpec | EncoderSpec | ArchiveSpec


def is_spec(text: str) -> bool:
    """Tell whether `text` is FILE.py:FUNCTION or FILE.pt2, whether or not there is such a file."""
    return _split(text) is not None or text.endswith(ARCHIVE)


def parse_spec(text: str) -> Spec:
    """Return what `FILE.py:FUNCTION`, `FILE.pt2` or the path of a folder stands for.

    Raises:
        BadInput: there is no such file or folder, or nothing is read from it.
    """
    parts = _split(text)
    if parts is not None:
        file, function = parts
        if not file.is_file():
            raise BadInput(
                "there is no such file", where=Where(path=str(file)), hint="give FILE.py:FUNCTION"
            )
        if not function.isidentifier():
            raise BadInput(
                f"{function!r} is no name of a function",
                where=Where(path=str(file)),
                hint="give FILE.py:FUNCTION, such as resnet.py:build",
            )
        return BuilderSpec(file, function)
    path = Path(text)
    if path.suffix == ARCHIVE:
        if not path.is_file():
            raise BadInput(
                "there is no such file",
                where=Where(path=text),
                hint="torch.export.save writes one",
            )
        return ArchiveSpec(path)
    if path.is_dir():
        return EncoderSpec(_encoder_folder(path))
    raise BadInput(
        "no PyTorch source",
        where=Where(path=text),
        hint="give FILE.py:FUNCTION, FILE.pt2 or a Hugging Face folder",
    )


def is_encoder(folder: Path) -> bool:
    """Tell whether a folder's config.json names a model that generates no text.

    Raises:
        BadInput: it can't be read.
    """
    names = _architectures(folder)
    return bool(names) and not any(name.endswith(GENERATES) for name in names)


def spec_files(spec: Spec) -> tuple[Path, ...]:
    """Return the files whose contents a source depends on, sorted: those of an encoder's folder, or
    the file of a function (what that imports is not known) or of an archive."""
    if not isinstance(spec, EncoderSpec):
        return (spec.file,)
    weights = spec.folder.glob("*.safetensors*")  # the index of several as well
    settings = (spec.folder / name for name in (CONFIG, "preprocessor_config.json"))
    return tuple(sorted({*weights, *(path for path in settings if path.is_file())}))


def function_name(text: str) -> str:
    """Return the function of `FILE.py:FUNCTION`, "" of any other source."""
    parts = _split(text)
    return parts[1] if parts else ""


def _split(text: str) -> tuple[Path, str] | None:
    file, colon, function = text.rpartition(":")
    return (Path(file), function) if colon and file.endswith(".py") else None


def _encoder_folder(folder: Path) -> Path:
    where = Where(path=str(folder))
    if not (folder / CONFIG).is_file():
        raise BadInput(
            f"the folder has no {CONFIG}",
            where=where,
            hint="give the folder that save_pretrained wrote",
        )
    if not is_encoder(folder):
        raise BadInput(
            f"its {CONFIG} names no encoder: {', '.join(_architectures(folder)) or 'nothing'}",
            where=where,
            hint="a decoder's folder is compiled as it is, without PyTorch",
        )
    if not any(folder.glob("*.safetensors")):
        raise BadInput(
            "its weights are not in safetensors",
            where=where,
            hint="other formats can run code when they are loaded: load it yourself and save it "
            "with save_pretrained(folder, safe_serialization=True)",
        )
    return folder


def _architectures(folder: Path) -> list[str]:
    path = folder / CONFIG
    fields = parse_json(read_text(path, "a Hugging Face folder has a config.json"), path)
    return fields.texts("architectures") if fields.has("architectures") else []
