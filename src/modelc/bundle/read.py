"""Opens a bundle: every file is there and is what the manifest says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from modelc.bundle.exchange import recover
from modelc.bundle.manifest import Manifest, load_manifest
from modelc.errors import BadInput, Damaged, Where
from modelc.files import check_files


@dataclass(frozen=True)
class BundleFiles:
    """A bundle whose files have been checked."""

    path: Path
    manifest: Manifest

    def file(self, name: str) -> Path:
        """Where one of its files lies."""
        if name not in self.manifest.files:
            raise BadInput(f"the bundle has no {name}", where=Where(path=str(self.path)))
        return self.path / name


def open_bundle(path: Path, *, check_contents: bool = True) -> BundleFiles:
    """Open a bundle. Sizes are checked always, SHA-256 unless `check_contents` is turned off.

    Raises:
        BadInput: not a bundle, or one of a newer format.
        Damaged: a file is missing, outside the folder (links followed), or not what it was.
    """
    recover(path)
    try:
        manifest = load_manifest(path)
        check_files(path, manifest.files, contents=check_contents)
    except Damaged as error:
        error.hint = error.hint or "compile the model again; a bundle can't be mended or edited"
        raise
    return BundleFiles(path, manifest)
