"""The manifest: what a bundle is, what it was made of and by, what each of its files must be."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

from modelc.errors import BadInput, Damaged, Where
from modelc.files import FileDigest, is_safe_name
from modelc.hashing import digest

MANIFEST = "manifest.json"
FORMAT: Final = "modelc bundle"
FORMAT_VERSION = 1
MAX_MANIFEST_BYTES = 16 << 20

_STRICT = ConfigDict(strict=True, extra="forbid")


@with_config(_STRICT)
@dataclass(frozen=True)
class Tensor:
    """A graph's input or output; a dimension is a number or a name."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@with_config(_STRICT)
@dataclass(frozen=True)
class Graph:
    """A graph inside a file of the bundle (a context binary holds several)."""

    name: str
    file: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@with_config(_STRICT)
@dataclass(frozen=True)
class Source:
    """What the bundle was made from: the file's or folder's name, and each file's SHA-256 (hex).

    A source that is one file has the file name "".
    """

    name: str
    sha256: Mapping[str, str]


@with_config(_STRICT)
@dataclass(frozen=True)
class Manifest:
    """manifest.json.

    Attributes:
        target: as in the recipe ("cpu", "snapdragon-8-elite").
        runtime: family of runtimes that can load it ("cpu", "snapdragon").
        recipe: as resolved, in its JSON form.
        tools: name -> version of what made it, modelc's own included.
        metrics: of the verification that it passed.
        settings: what the runtime has to know (context_length, vocab_size, ...).
        files: every file but the manifest; filled when the bundle is written.
        digest: SHA-256 (hex) of all the rest of the manifest; filled when it is written.
    """

    target: str
    runtime: str
    source: Source
    recipe: Mapping[str, Any]
    tools: Mapping[str, str]
    metrics: Mapping[str, Any]
    graphs: tuple[Graph, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, FileDigest] = field(default_factory=dict)
    modelc: str = ""
    digest: str = ""
    format_version: Annotated[int, Field(ge=1, le=FORMAT_VERSION)] = FORMAT_VERSION
    format: Literal["modelc bundle"] = FORMAT

    @property
    def size(self) -> int:
        """Bytes of all files but the manifest."""
        return sum(file.size for file in self.files.values())

    def document(self) -> dict[str, Any]:
        """Return the JSON form."""
        return dataclasses.asdict(self)


_MANIFESTS = TypeAdapter(Manifest)


def sealed(manifest: Manifest) -> Manifest:
    """Return the manifest with the digest of all the rest of it."""
    return dataclasses.replace(manifest, digest=_digest(manifest.document()))


def dump_manifest(manifest: Manifest) -> bytes:
    """Return the JSON form: the same bytes for equal manifests."""
    document = sealed(manifest).document()
    return (json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def load_manifest(folder: Path) -> Manifest:
    """Read a bundle's manifest; its files are not looked at.

    Raises:
        BadInput: the folder is no bundle, or one of a newer format.
        Damaged: the manifest is not what modelc writes.
    """
    where = Where(path=str(folder / MANIFEST))
    document = _document(folder, where)
    version = document.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise BadInput(
            f"the bundle has format {version}; this modelc reads up to {FORMAT_VERSION}",
            where=where,
            hint="upgrade modelc, or compile the model again with this one",
        )
    try:
        manifest = _MANIFESTS.validate_json(json.dumps(document))
    except (ValidationError, ValueError, RecursionError) as error:
        raise Damaged(f"the manifest is damaged: {_first_problem(error)}", where=where) from error
    named = [*manifest.files, *(graph.file for graph in manifest.graphs)]
    for name in named:
        if not is_safe_name(name) or name == MANIFEST:
            raise Damaged(f"the manifest names a file outside the bundle: {name!r}", where=where)
        if name not in manifest.files:
            raise Damaged(f"the manifest has a graph in {name}, which it lacks", where=where)
    if manifest.digest != _digest(document):
        raise Damaged("the manifest was edited: it is not what its digest says", where=where)
    return manifest


def _digest(document: Mapping[str, Any]) -> str:
    # By way of JSON, so that what was read counts as what was written (tuples are lists).
    rest = {name: value for name, value in document.items() if name != "digest"}
    return digest(json.loads(json.dumps(rest)))


def is_bundle(folder: Path) -> bool:
    """Whether a folder has a manifest of ours, of whatever version, damaged otherwise or not."""
    try:
        return _document(folder, Where()).get("format") == FORMAT
    except (BadInput, Damaged):
        return False


def listed_files(folder: Path) -> frozenset[str]:
    """Names that a bundle's manifest lists, of whatever version, and the manifest's own."""
    files = _document(folder, Where()).get("files")
    return frozenset({MANIFEST, *(files if isinstance(files, dict) else ())})


def _document(folder: Path, where: Where) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise BadInput(
            "not a bundle: it has no manifest.json that can be read",
            where=Where(path=str(folder)),
            hint="give the folder that modelc compile made",
        ) from error
    if len(data) > MAX_MANIFEST_BYTES:
        raise Damaged(f"the manifest is larger than {MAX_MANIFEST_BYTES} bytes", where=where)
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"the manifest is no JSON: {error}", where=where) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise BadInput("not a manifest of modelc", where=where)
    return document


def _first_problem(error: Exception) -> str:
    if isinstance(error, ValidationError):
        problem = error.errors()[0]
        return f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
    return str(error)
