"""Prefill and decode rates on the CPU, modelc beside llama.cpp, on the same GGUF files.

    python benchmarks/cpu_generate.py [--llama-python PATH] [--threads N] [--rounds N]

Makes a random Llama of 200M parameters in Q4_0, Q8_0 and (where llama.cpp is there to make it)
Q4_K_M, compiles each file with `--gguf exact` and, where it differs, `fast`, and lets the engines
take turns: a prompt of 128 tokens that no one has seen, then 64 more by greedy decoding. Medians
over the rounds; a ratio above 1 means faster than llama.cpp. SQNR: logits against the float
reference of the same file.

Needs modelc, and for the peer's rows llama-cpp-python, here or in the interpreter that
--llama-python names (`python -m venv v && v/bin/pip install llama-cpp-python`). Use it on a quiet
machine: two busy threads on two cores suffer from whatever else runs.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import random_gguf
from random_models import SHAPES, default_folder
from tables import machine, show
from worker import Worker

import modelc

KINDS = ("Q4_0", "Q8_0", "Q4_K_M")
CONTEXT = 512
PROMPT = 128
NEW = 64
COLUMNS = (
    *("file", "engine", "prefill", "ratio", "decode", "ratio"),
    *("load s", "peak MB", "size MB", "SQNR dB"),
)
# Random weights leave no margin between tokens; what is measured here is speed.
LENIENT = {"min_sqnr_db": 3.0, "min_top1": 0.1, "max_perplexity_ratio": 3.0}


@dataclass
class Engine:
    """A worker with a loaded model, and what was measured of it."""

    name: str
    worker: Worker
    load_seconds: float
    size_mb: float
    sqnr_db: float
    prefill: list[float] = field(default_factory=list)
    decode: list[float] = field(default_factory=list)

    def measure(self, prompt: list[int]) -> None:
        answer = self.worker.ask("generate", prompt=prompt, count=NEW)
        self.prefill.append(len(prompt) / answer["prefill"])
        self.decode.append((NEW - 1) / answer["decode"])

    def row(self, kind: str, peer: Engine | None) -> list[str]:
        cells = [kind, self.name]
        for of in ("prefill", "decode"):
            rate = statistics.median(getattr(self, of))
            ratio = rate / statistics.median(getattr(peer, of)) if peer else None
            cells += [f"{rate:.0f}", f"{ratio:.2f}" if ratio else "-"]
        peak = self.worker.ask("peak")["mb"]
        return [
            *cells,
            f"{self.load_seconds:.2f}",
            f"{peak:.0f}",
            f"{self.size_mb:.0f}",
            f"{self.sqnr_db:.1f}",
        ]


def bundles(source: Path, folder: Path) -> dict[str, modelc.Bundle]:
    """Compile for the CPU; without `fast` where it gives the same weights."""
    found: dict[str, modelc.Bundle] = {}
    weights: set[str] = set()
    for gguf in ("exact", "fast"):
        bundle = modelc.compile(
            source,
            target="cpu",
            output=folder / f"{source.stem}-{gguf}.modelc",
            gguf=gguf,
            context_length=CONTEXT,
            verify=LENIENT,
        )
        digest = bundle.manifest.files["model.onnx.data"].sha256
        if digest not in weights:
            weights.add(digest)
            found[gguf] = bundle
    return found


def start(kind: str, source: Path, options: argparse.Namespace) -> list[Engine]:
    """Load one file into every engine, llama.cpp first."""
    engines = []
    compiled = bundles(source, options.folder)
    reference = str(next(iter(compiled.values())).path.resolve() / "verification.npz")
    if options.llama_python:
        worker = Worker("serve_llama.py", options.llama_python)
        loaded = worker.ask("open", model=str(source), context=CONTEXT, threads=options.threads)
        size = source.stat().st_size
        engines.append(_engine("llama.cpp", worker, loaded, size, reference))
    for gguf, bundle in compiled.items():
        worker = Worker("serve_modelc.py")
        loaded = worker.ask("open", model=str(bundle.path.resolve()), threads=options.threads)
        size = bundle.manifest.size
        engines.append(_engine(f"modelc {gguf}", worker, loaded, size, reference))
    return engines


def _engine(name: str, worker: Worker, loaded: dict[str, Any], size: int, reference: str) -> Engine:
    sqnr = worker.ask("compare", reference=reference)["sqnr_db"]
    return Engine(name, worker, loaded["seconds"], size / 2**20, sqnr)


def compare(engines: list[Engine], rounds: int) -> None:
    """Let the engines take turns, every other round in reverse."""
    random = np.random.default_rng(0)
    for round in range(rounds + 1):
        prompt = random.integers(0, SHAPES["200m"].bos, PROMPT).tolist()
        for engine in engines if round % 2 else reversed(engines):
            engine.measure(prompt)
            time.sleep(0.05)  # threads that still spin are not to disturb the next
        if round == 0:
            for engine in engines:  # the first one touches everything for the first time
                engine.prefill.clear()
                engine.decode.clear()


def find_llama(asked: str | None) -> str | None:
    """Return an interpreter that has llama-cpp-python."""
    if asked:
        return asked
    return sys.executable if importlib.util.find_spec("llama_cpp") else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--llama-python", help="interpreter that has llama-cpp-python")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--folder", type=Path, default=default_folder())
    options = parser.parse_args()
    options.llama_python = find_llama(options.llama_python)
    print(f"{machine()}; {options.threads} threads")

    quantise = None
    if options.llama_python:
        tool = Worker("serve_llama.py", options.llama_python)
        print(f"llama-cpp-python {tool.ask('version')['version']}, flash attention on")

        def quantise(source: Path, target: Path, kind: str) -> None:
            tool.ask("quantise", source=str(source), target=str(target), kind=kind)
    else:
        print("no llama-cpp-python here: its rows and Q4_K_M are left out (--llama-python PATH)")

    rows = []
    for kind in options.kinds:
        if quantise is None and kind not in random_gguf.FILE_TYPES:
            continue
        source = random_gguf.make(options.folder, kind, quantise)
        engines = start(kind, source, options)
        peer = engines[0] if options.llama_python else None
        compare(engines, options.rounds)
        rows += [engine.row(kind, peer) for engine in engines]
        for engine in engines:
            engine.worker.close()
    show(
        f"tokens per second: prefill of {PROMPT}, then decode of {NEW}; "
        f"medians of {options.rounds} rounds in turn",
        COLUMNS,
        rows,
    )


if __name__ == "__main__":
    main()
