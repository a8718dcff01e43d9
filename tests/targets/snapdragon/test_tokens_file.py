"""Tokens reach the parent in order, each once, all before it goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from modelc.targets.snapdragon.tokens_file import TokenWriter, follow

WRITER = """
import sys, time
from modelc.targets.snapdragon.tokens_file import TokenWriter
write = TokenWriter(sys.argv[1])
for token in range(200):
    write(token)
    if token % 50 == 0:
        time.sleep(0.06)
"""


def test_another_process_is_followed(tmp_path: Path) -> None:
    path, seen = tmp_path / "tokens", list[int]()
    path.write_text("99\n")  # what an earlier run left
    with follow(path, seen.append):
        subprocess.run([sys.executable, "-c", WRITER, str(path)], check=True)
    assert seen == list(range(200))


def test_tokens_are_seen_even_if_the_work_fails(tmp_path: Path) -> None:
    path, seen = tmp_path / "tokens", list[int]()
    with pytest.raises(RuntimeError), follow(path, seen.append):
        TokenWriter(str(path))(7)
        raise RuntimeError
    assert seen == [7]


def test_nobody_listens(tmp_path: Path) -> None:
    with follow(tmp_path / "tokens", None):
        TokenWriter(str(tmp_path / "tokens"))(7)
    assert (tmp_path / "tokens").read_text() == "7\n"
