"""SDKs for the card whose tools note how they were called, and write an empty program.

Calls are in `FAKE_CALLS`, one argument a line, "==" after each. With `FAKE_FAILS` set they fail;
with it set to "half" they leave a folder without the program.
"""

from __future__ import annotations

from pathlib import Path

import pytest

COMPILER = """#!/bin/sh
printf '%s\\n' "$@" >> "$FAKE_CALLS"
echo == >> "$FAKE_CALLS"
for a in "$@"; do case "$a" in
  -aic-binary-dir=*) d="${a#*=}";;
  -m=*) [ -e "${a#*=}" ] || { echo "no graph" >&2; exit 9; };;
esac; done
[ -e "$d" ] && { echo "$d is there" >&2; exit 8; }
[ "$FAKE_FAILS" = half ] && mkdir -p "$d"
[ -n "$FAKE_FAILS" ] && { echo "no such operator" >&2; exit 7; }
mkdir -p "$d" && echo qpc > "$d/programqpc.bin"
"""
QNN_TOOL = """#!/bin/sh
{ echo "$0" | sed 's|.*/||'; printf '%s\\n' "$@"; echo ==; } >> "$FAKE_CALLS"
while [ $# -gt 0 ]; do case "$1" in
  --input_network) [ -e "$2" ] || exit 9;;
  --output_path) echo dlc > "$2";;
  --dlc_path) [ -e "$2" ] || exit 9;;
  --config_file) grep -q @SDK@ "$2" && exit 9;;
  --output_dir) mkdir -p "$2"; echo qpc > "$2/programqpc.bin";;
esac; shift; done
"""


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def apps_sdk(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: str = "1.22.0",
    name: str = "qaic-compile",
) -> Path:
    """Install an Apps SDK."""
    sdk = folder / "sdk"
    program(sdk / "exec" / name, COMPILER)
    (sdk / "versions").mkdir()
    (sdk / "versions/apps.xml").write_text(
        f"<versions><ci_build><base_version>{version}</base_version></ci_build></versions>"
    )
    monkeypatch.setenv("QAIC_SDK_ROOT", str(sdk))
    monkeypatch.setenv("FAKE_CALLS", str(folder / "calls"))
    return sdk


def qnn_sdk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a QNN SDK."""
    sdk = folder / "qnn"
    host = "x86_64-linux-clang"
    for tool in ("qairt-converter", "qnn-context-binary-generator"):
        program(sdk / "bin" / host / tool, QNN_TOOL)
    (sdk / "lib" / host).mkdir(parents=True)
    (sdk / "lib" / host / "libQnnAic.so").write_bytes(b"")
    (sdk / "sdk.yaml").write_text("version: 2.39.0\n")
    monkeypatch.setenv("QNN_SDK_ROOT", str(sdk))
    monkeypatch.setenv("FAKE_CALLS", str(folder / "calls"))
    return sdk


def calls(folder: Path) -> list[list[str]]:
    """Return the arguments of each call of a tool."""
    path = folder / "calls"
    runs = path.read_text().split("==\n") if path.exists() else [""]
    return [run.splitlines() for run in runs[:-1]]
