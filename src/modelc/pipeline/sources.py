"""SHA-256 of the files outside the store, remembered as long as their stat does not change."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modelc.errors import BadInput, ModelcError, Where
from modelc.files import readable_digest, write_atomic
from modelc.frontends import source_files
from modelc.frontends.networks import network_kind, network_source_files
from modelc.hashing import digest
from modelc.pipeline.job import CALIBRATION_DATA
from modelc.pipeline.network.feed_files import feed_files
from modelc.pipeline.network.job import FEEDS
from modelc.pipeline.step import SOURCE
from modelc.pipeline.store import Store
from modelc.quant.samples import source_of

SETTLED_NS = 2_000_000_000
"""A file changed less than this ago may change again within one tick of its clock, unseen."""

Stat = tuple[int, int, int, int]
"""Size, times of the last change of contents and of attributes, inode."""

Stats = Mapping[str, tuple[int, int, int]]
"""File name -> size, time of the last change of contents, inode."""


@dataclass(frozen=True)
class Sources:
    """The files outside the store that a plan reads, by the names its steps declare.

    Attributes:
        paths: name -> a file, or a folder with a model; of a folder those files count that the
            model is made of.
    """

    store: Store
    paths: Mapping[str, Path]

    @property
    def origin(self) -> str:
        """Where the model lies; says whose last run `explain` compares with."""
        path = self.paths.get(SOURCE)
        return str(path.absolute()) if path else ""

    def digests(self, name: str) -> dict[str, str]:
        """Return file name -> SHA-256; a file that is a source by itself has the name "".

        Raises:
            BadInput: there is no such file.
        """
        return {file: self._digest(path) for file, path in self._files(name).items()}

    def stats(self, name: str) -> Stats:
        """Return what differs if a file was rewritten, without reading any."""
        found = {file: _stat(path) for file, path in self._files(name).items()}
        return {file: (size, time, inode) for file, (size, time, _, inode) in found.items()}

    def _files(self, name: str) -> dict[str, Path]:
        if name not in self.paths:
            raise ModelcError(f"the plan reads {name!r}, which was not given")
        root = self.paths[name]
        if name in FEEDS:
            return feed_files(root)
        if name == SOURCE and network_kind(root):
            files = network_source_files(root)
            folder = files[0].parent
            return {path.relative_to(folder).as_posix(): path for path in files}
        if root.is_file():
            listed = source_of(root).files(root) if name == CALIBRATION_DATA else {}
            return {"": root, **listed}
        if not root.is_dir():
            raise BadInput(
                f"{name.replace('_', ' ')}: no such file or folder", where=Where(path=str(root))
            )
        # Links are followed: Hugging Face's own cache is made of them.
        return {path.relative_to(root).as_posix(): path for path in source_files(root)}

    def _digest(self, path: Path) -> str:
        real = path.resolve()
        remembered = self.store.root / "digests" / f"{digest(str(real))}.json"
        before = _stat(real)
        known = _remembered(remembered)
        if known and known[0] == before:
            return known[1]
        value = readable_digest(real)
        if _stat(real) != before:
            raise ModelcError("the file changed while it was read", where=Where(path=str(path)))
        if time.time_ns() - max(before[1], before[2]) > SETTLED_NS:
            remembered.parent.mkdir(exist_ok=True)
            write_atomic(remembered, json.dumps([before, value]).encode(), durable=False)
        return value


def _stat(path: Path) -> Stat:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _remembered(path: Path) -> tuple[Stat, str] | None:
    try:
        (size, modified, changed, inode), value = json.loads(path.read_text())
    except (OSError, ValueError, TypeError):
        return None
    return ((size, modified, changed, inode), value) if isinstance(value, str) else None
