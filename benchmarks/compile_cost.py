"""What compiling for the CPU costs, against reading and writing the same bytes once.

    python benchmarks/compile_cost.py [--kind Q4_0] [--runs N]

Compiles a GGUF of 200M random parameters with an empty store, in a new process each time, and
copies the file in the same run: read, written, brought to the disk.
Conversion is everything but the verification (the steps `reference` and `verify`): import,
canonical graph, lowering, writing the bundle, hashing. Then the same compile once more, with
the store full. Medians. Needs modelc only.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import random_gguf
from random_models import default_folder
from tables import machine, show

VERIFICATION = ("reference", "verify")
CHUNK = 1 << 22
AIMS = {"copy": 3.0, "memory": 1.5, "repeat": 1.0}

# The library as a script would use it, without the command line's own start.
COMPILE = """
import json, sys, time
start = time.perf_counter()
import modelc
bundle = modelc.compile(sys.argv[1], target="cpu", output=sys.argv[2])
document = bundle.report.document()
document["process_seconds"] = time.perf_counter() - start
json.dump(document, sys.stdout)
"""


def copy_seconds(source: Path, target: Path) -> float:
    """Read and write a file's bytes once, down to the disk."""
    start = time.perf_counter()
    with source.open("rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(CHUNK):
            writer.write(chunk)
        os.fsync(writer.fileno())
    seconds = time.perf_counter() - start
    target.unlink()
    return seconds


def compile_once(source: Path, output: Path, store: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, str(source), str(output)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "MODELC_STORE": str(store)},
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def conversion(report: dict[str, Any]) -> tuple[float, float]:
    """Return seconds and peak MB of all but the verification."""
    rest = [step for step in report["steps"] if step["name"] in VERIFICATION]
    kept = [step for step in report["steps"] if step["name"] not in VERIFICATION]
    seconds = report["process_seconds"] - sum(step["seconds"] for step in rest)
    return seconds, max(step["peak_mb"] for step in kept)


def median(values: list[float]) -> float:
    return statistics.median(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kind", choices=("Q4_0", "Q8_0", "F16"), default="Q4_0")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=default_folder())
    options = parser.parse_args()
    print(machine())
    source = random_gguf.make(options.folder, options.kind)
    size_mb = source.stat().st_size / 2**20

    copies: list[float] = []
    firsts: list[dict[str, Any]] = []
    repeats: list[dict[str, Any]] = []
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
            copies.append(copy_seconds(source, Path(scratch, "copy")))
            output, store = Path(scratch, "bundle"), Path(scratch, "store")
            firsts.append(compile_once(source, output, store))
            shutil.rmtree(output)
            repeats.append(compile_once(source, output, store))

    names = [step["name"] for step in firsts[0]["steps"]]
    steps = [[run["steps"][index] for run in firsts] for index in range(len(names))]
    copy = median(copies)
    rows = [
        [name, f"{median([s['seconds'] for s in runs]):.2f}", "",
         f"{median([s['peak_mb'] for s in runs]):.0f}", ""]
        for name, runs in zip(names, steps, strict=True)
    ]  # fmt: skip
    seconds = median([conversion(run)[0] for run in firsts])
    peak = median([conversion(run)[1] for run in firsts])
    whole = median([run["process_seconds"] for run in firsts])
    most = median([run["peak_mb"] for run in firsts])
    again = median([run["process_seconds"] for run in repeats])
    for name, value, mb in (
        ("read, write, sync once", copy, None),
        ("conversion", seconds, peak),
        ("whole compile", whole, most),
        ("repeat", again, None),
    ):
        memory = ["", ""] if mb is None else [f"{mb:.0f}", f"{mb / size_mb:.2f}"]
        rows.append([name, f"{value:.2f}", f"{value / copy:.1f}", *memory])
    show(
        f"{options.kind}, {size_mb:.0f} MB; medians of {options.runs} runs; aims: "
        f"conversion {AIMS['copy']:.0f} x copy, peak {AIMS['memory']} x file, "
        f"repeat {AIMS['repeat']:.0f} s",
        ["", "seconds", "x copy", "peak MB", "x file"],
        rows,
    )


if __name__ == "__main__":
    main()
