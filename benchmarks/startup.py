"""How long the command line takes to start.

    python benchmarks/startup.py [--runs N] [--aim SECONDS]

Runs `modelc --help` and `modelc targets`, beside an interpreter that does nothing, in turn; median
wall time. A command above the aim gets its slowest imports listed. Needs modelc only.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

from tables import machine, show

MODELC = (sys.executable, str(Path(sysconfig.get_path("scripts"), "modelc")))
COMMANDS = {
    "python -c pass": (sys.executable, "-c", "pass"),
    "modelc --help": (*MODELC, "--help"),
    "modelc targets": (*MODELC, "targets"),
}
LISTED = 12


def seconds(command: tuple[str, ...]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def slowest_imports(command: tuple[str, ...]) -> list[list[str]]:
    """Return rows of (module, its own ms, ms with all that it imports), slowest first."""
    timed = (command[0], "-X", "importtime", *command[1:])
    printed = subprocess.run(timed, check=True, capture_output=True, text=True).stderr
    rows = []
    for line in printed.splitlines():
        own, total, module = line.removeprefix("import time:").split("|")
        if own.strip().isdecimal():
            rows.append((module.strip(), int(own) / 1000, int(total) / 1000))
    rows.sort(key=lambda row: -row[1])
    return [[module, f"{own:.1f}", f"{total:.1f}"] for module, own, total in rows[:LISTED]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--aim", type=float, default=0.3, help="seconds")
    options = parser.parse_args()
    print(machine())

    measured: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for command in COMMANDS.values():
        seconds(command)  # bytecode and file caches
    for _ in range(options.runs):
        for name, command in COMMANDS.items():
            measured[name].append(seconds(command))
    medians = {name: statistics.median(times) for name, times in measured.items()}
    show(
        f"seconds, medians of {options.runs} runs in turn; aim {options.aim}",
        ["command", "median", "fastest"],
        [[name, f"{medians[name]:.3f}", f"{min(measured[name]):.3f}"] for name in COMMANDS],
    )
    for name, command in COMMANDS.items():
        if medians[name] > options.aim:
            show(
                f"slowest imports of {name}",
                ["module", "own ms", "total ms"],
                slowest_imports(command),
            )


if __name__ == "__main__":
    main()
