"""What compiling a decoder for a GPU costs on a machine that has none: seconds, memory, kernels.

    python benchmarks/cuda_compile.py [--size 1b] [--layers N] [--context-length 2048]

Compiles a Llama of random parameters in the shape of a real one for sm90, in a process of its own
and a store of its own; then its kernels once more, whose cubins must be the same bytes. Beside it
what copying the bundle's weights takes on this disk. Needs modelc with torch and Triton.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from compile_cost import copy_seconds
from random_folder import make
from random_models import SHAPES, default_folder
from tables import machine, show

from modelc.targets.cuda.aot import compile_variants
from modelc.targets.cuda.plan import PLAN, load_plan
from modelc.targets.cuda.variant import Variant

ARCH = 90
COMMAND = (sys.executable, "-m", "modelc.cli.main", "compile")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", choices=SHAPES, default="1b")
    parser.add_argument("--layers", type=int, default=0, help="fewer than the shape has")
    parser.add_argument("--context-length", type=int, default=2048)
    parser.add_argument("--tokens", type=int, default=64, help="that it is verified on")
    parser.add_argument("--folder", type=Path, default=default_folder())
    options = parser.parse_args()
    size = options.size
    if options.layers:
        size = f"{size}-{options.layers}"
        SHAPES[size] = replace(SHAPES[options.size], layers=options.layers)
    print(machine())
    source = make(options.folder, size)
    with tempfile.TemporaryDirectory(prefix="cuda-", dir=options.folder) as scratch:
        report, seconds = compile_in(Path(scratch), source, options.context_length, options.tokens)
        bundle = Path(scratch, "bundle")
        weights = bundle / "weights.safetensors"
        copied = copy_seconds(weights, Path(scratch, "copy"))
        size_mb = weights.stat().st_size / 2**20
        same, count, again = compile_again(bundle, Path(scratch, "again"))
    rows = [
        (row["name"], f"{row['seconds']:.1f}", f"{row['peak_mb']:.0f}",
         f"{row['peak_mb'] / size_mb:.2f}")
        for row in report["steps"]
    ]  # fmt: skip
    peak = report["peak_mb"]
    rows.append(("all", f"{seconds:.1f}", f"{peak:.0f}", f"{peak / size_mb:.2f}"))
    rows.append(("reading and writing the weights", f"{copied:.1f}", "", ""))
    title = f"{size} for sm{ARCH}, weights {size_mb:.0f} MB, context {options.context_length}"
    show(title, ("step", "seconds", "peak MB", "times the weights"), rows)
    step = next(row for row in report["steps"] if row["name"] == f"kernels.sm{ARCH}")
    print(
        f"{count} kernels: {count / step['seconds']:.2f} per second in the compile, "
        f"{count / again:.2f} again; cubins the same bytes twice: {same} of {count}"
    )
    print(f"SQNR against the float model: {report['verify']['metrics']['sqnr_db']:.1f} dB")
    if same != count:
        raise SystemExit(1)


def compile_in(
    scratch: Path, source: Path, context: int, tokens: int
) -> tuple[dict[str, Any], float]:
    """Return the compile's report and how long the command took."""
    recipe = scratch / "recipe.toml"
    # Of random weights the two best tokens are often near each other; the SQNR still counts.
    recipe.write_text(f"[verify]\ntokens = {tokens}\nmin_top1 = 0.5\n")
    arguments = (source, "--target", f"cuda:sm{ARCH}", "--context-length", context,
                 "--recipe", recipe, "-o", scratch / "bundle", "--json")  # fmt: skip
    environment = {**os.environ, "MODELC_STORE": str(scratch / "store")}
    start = time.perf_counter()
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)], env=environment, stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout), time.perf_counter() - start


def compile_again(bundle: Path, folder: Path) -> tuple[int, int, float]:
    """Compile a bundle's kernels anew; returns how many are the same bytes, of how many, and the
    seconds."""
    kernels = bundle / "kernels" / f"sm{ARCH}"
    load_plan(bundle / PLAN)  # the bundle is whole
    documents = json.loads((kernels / "kernels.json").read_text())["tiles"]
    variants = {
        one.key: one for one in (Variant.from_document(document) for document in documents.values())
    }
    folder.mkdir()
    start = time.perf_counter()
    cubins = compile_variants(list(variants.values()), ARCH, folder / "cubins", workdir=folder)
    seconds = time.perf_counter() - start
    same = sum(
        cubin.path.read_bytes() == (kernels / cubin.path.name).read_bytes()
        for cubin in cubins.values()
    )
    return same, len(cubins), seconds


if __name__ == "__main__":
    main()
