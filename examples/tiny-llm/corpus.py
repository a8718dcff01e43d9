"""The text: the King James Version (1611, public domain) from Debian's package ``bible-kjv-text``.

The package holds a compressed text that only its reader ``bible`` (package ``bible-kjv``)
prints. ``read_chapters`` takes the folder both packages were unpacked into::

    apt-get download bible-kjv-text bible-kjv
    for deb in *.deb; do dpkg -x "$deb" unpacked; done

or, with no folder given, does these two steps itself in a temporary folder. On a system with
both packages installed the folder is ``/``.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("bible-kjv-text", "bible-kjv")
HELD_OUT_EVERY = 80
HELD_OUT_OFFSET = 40
CALIBRATION_EVERY = 45
_VERSE = re.compile(r"(?P<chapter>[0-9]?[A-Za-z]+[0-9]+):[0-9]+ +(?P<text>.+)")


@dataclass(frozen=True)
class Chapter:
    """One chapter: its name in the package (``Ge1``) and its verses, each one line of prose."""

    name: str
    verses: tuple[str, ...]

    @property
    def text(self) -> str:
        """The verses, one on each line, with a newline after the last."""
        return "".join(f"{verse}\n" for verse in self.verses)


@dataclass(frozen=True)
class Corpus:
    """The chapters to train on and those that are never trained on."""

    train: tuple[Chapter, ...]
    held_out: tuple[Chapter, ...]

    @property
    def held_out_text(self) -> str:
        """All held-out chapters as one text."""
        return "".join(chapter.text for chapter in self.held_out)

    @property
    def calibration_text(self) -> str:
        """A few of the training chapters, spread over the books, as one text."""
        return "".join(chapter.text for chapter in self.train[::CALIBRATION_EVERY])


def read_corpus(root: Path | None = None) -> Corpus:
    """Read the text and hold out every 80th chapter, so that the choice is spread over the books.

    Args:
        root: Folder that holds the unpacked packages; None downloads them with ``apt-get``.
    """
    chapters = read_chapters(root)
    held_out = set(range(HELD_OUT_OFFSET, len(chapters), HELD_OUT_EVERY))
    return Corpus(
        train=tuple(c for i, c in enumerate(chapters) if i not in held_out),
        held_out=tuple(c for i, c in enumerate(chapters) if i in held_out),
    )


def read_chapters(root: Path | None = None) -> list[Chapter]:
    """Read all 1189 chapters in the order of the books."""
    if root is None:
        with tempfile.TemporaryDirectory() as folder:
            return read_chapters(_download(Path(folder)))
    bible, data = root / "usr/bin/bible", root / "usr/lib"
    dump = subprocess.run(
        [bible, "-p", data, "-f", "gen1:1-rev22:21"], check=True, capture_output=True, text=True
    ).stdout
    verses: dict[str, list[str]] = {}
    for line in dump.splitlines():
        match = _VERSE.fullmatch(line.strip())
        if match is None:
            raise ValueError(f"not a verse: {line!r}")
        verses.setdefault(match["chapter"], []).append(" ".join(match["text"].split()))
    if len(verses) != 1189:
        raise ValueError(f"expected 1189 chapters, found {len(verses)}")
    return [Chapter(name, tuple(texts)) for name, texts in verses.items()]


def _download(folder: Path) -> Path:
    """Download and unpack both Debian packages; return the folder they are unpacked in."""
    subprocess.run(["apt-get", "download", *PACKAGES], cwd=folder, check=True)
    for deb in sorted(folder.glob("*.deb")):
        subprocess.run(["dpkg", "-x", deb, folder / "unpacked"], check=True)
    return folder / "unpacked"
