"""Commands that only tell facts load nothing heavy: that is what makes them start fast."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {"numpy", "onnx", "onnx_ir", "onnxruntime", "onnxruntime_qnn", "torch"}
PROBE = """
import atexit, json, sys
loaded = lambda: json.dumps([name for name in sys.modules if "." not in name])
atexit.register(lambda: print(loaded(), file=sys.stderr))
from modelc.cli.main import main
main()
"""


@pytest.mark.parametrize("argument", ["--help", "--version", "targets"])
def test_no_heavy_imports(argument: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, argument], capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stderr))
    assert {"modelc", "typer"} <= loaded
    assert not loaded & HEAVY
    # Typer itself loads pydantic once it parses options.
    assert argument != "--help" or "pydantic" not in loaded
