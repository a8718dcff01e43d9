"""What preparing a decoder for Cloud AI 100 costs: each step's seconds and peak memory.

    python benchmarks/card_export.py [--size 1b] [--context-length 4096]

Compiles a Llama of random parameters in the shape of a real one with `--prepare-only`, in a process
of its own and a store of its own: the step `lower` is the export. Beside it the size of the weights
in the source, and what writing as many bytes as the ONNX has takes on this disk. Needs modelc only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from random_folder import make
from random_models import SHAPES, default_folder
from tables import machine, show

AIM_S, AIM_MEMORY = 60.0, 1.5
"""Of the export of 1B parameters; memory in sizes of its weights."""
COMMAND = (sys.executable, "-m", "modelc.cli.main", "compile")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", choices=SHAPES, default="1b")
    parser.add_argument("--context-length", type=int, default=4096)
    parser.add_argument("--folder", type=Path, default=default_folder())
    options = parser.parse_args()
    source = make(options.folder, options.size)
    with tempfile.TemporaryDirectory(prefix="card-", dir=options.folder) as scratch:
        report, seconds = compile_in(Path(scratch), source, options.context_length)
        bundle = Path(scratch, "bundle")
        data = sum(path.stat().st_size for path in bundle.glob("model.onnx*"))
        written = write_bytes(Path(scratch, "plain"), data)
    weights = sum(path.stat().st_size for path in source.glob("*.safetensors"))
    rows = [
        (row["name"], f"{row['seconds']:.1f} s", f"{row['peak_mb']:.0f} MB",
         f"{row['peak_mb'] * 2**20 / weights:.2f}")
        for row in report["steps"]
    ]  # fmt: skip
    peak = report["peak_mb"]
    rows.append(("all", f"{seconds:.1f} s", f"{peak:.0f} MB", f"{peak * 2**20 / weights:.2f}"))
    rows.append((f"writing {data / 1e9:.2f} GB", f"{written:.1f} s", "", ""))
    print(machine())
    title = (
        f"{options.size}, weights {weights / 1e9:.2f} GB in the source, context "
        f"{options.context_length}; aim for lower of 1b: {AIM_S:.0f} s, {AIM_MEMORY} times the "
        "weights"
    )
    show(title, ("step", "clock", "peak", "times the weights"), rows)
    sqnr = report["verify"]["metrics"]["sqnr_db"]
    print(f"SQNR against the float model: {sqnr:.1f} dB")


def compile_in(scratch: Path, source: Path, context: int) -> tuple[dict[str, Any], float]:
    """Return the compile's report and how long the command took."""
    arguments = (source, "--target", "qaic:ai100", "--context-length", context, "--prepare-only",
                 "--mxfp6", "--mxint8-kv", "-o", scratch / "bundle", "--json")  # fmt: skip
    environment = {**os.environ, "MODELC_STORE": str(scratch / "store")}
    start = time.perf_counter()
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)], env=environment, stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout), time.perf_counter() - start


def write_bytes(path: Path, size: int) -> float:
    """Return the seconds that writing `size` bytes takes."""
    block = os.urandom(1 << 20) * 64
    start = time.perf_counter()
    with path.open("wb") as stream:
        for first in range(0, size, len(block)):
            stream.write(block[: size - first])
        stream.flush()
        os.fsync(stream.fileno())
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
