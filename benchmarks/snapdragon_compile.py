"""The whole Snapdragon compile at real size: time and peak memory of each step.

    python benchmarks/snapdragon_compile.py [--model 1b|8b|layers|tiny] [--quant w4a16] [--peer]

Compiles random weights of Llama 3.2 1B or 3.1 8B (or two layers of the 1B's shape, the shipped
model, a random toy) with an empty store, for AR-128 and AR-1, calibration and verification
included. `--peer` compiles the same model as a person would by hand, with ONNX Runtime's quantize()
and its QNN provider, from the same static float graphs on the same calibration text. Both are
compared with the float model in the HTP simulator, or, if they are too large for it, on ONNX
Runtime's CPU. Needs modelc with onnxruntime-qnn (Linux on x86-64 or Windows).
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import random_gguf
from random_models import SHAPES, default_folder
from tables import machine, show
from worker import Worker

import modelc
from modelc.bundle.tokenizer import load_tokenizer
from modelc.decoder.builder import build_decoder
from modelc.frontends import read_model
from modelc.ir.write import write_model
from modelc.passes.base import run_passes
from modelc.passes.pipelines import build_pipeline
from modelc.pipeline.events import Event, StepFinished, StepLog, StepStarted
from modelc.pipeline.store import Store
from modelc.quant.samples.cut import cut_batches
from modelc.targets.snapdragon.graph_names import GraphKey

TINY: Final = Path(__file__).parents[1] / "examples" / "tiny-llm"
AR: Final = (128, 1)
AIMS: Final = {"1b": (8, 8), "8b": (40, 12)}  # minutes, GB
PEER_AIMS: Final = "5 x faster, a quarter of the memory, SQNR equal or better"
# Steps that only prove the result; a compile by hand has nothing like them.
PROOF: Final = ("reference", "samples", "twin", "rehearse", "verify", "attention")
COMPILER: Final = "generate_context_binary"
COMPILED: Final = re.compile(r"compiled in ([\d.]+) s$")  # what the compiler's step logs
# Random weights leave no margin between tokens; what is measured of them is speed and memory.
LENIENT: Final = {"min_sqnr_db": 0.0, "min_top1": 0.0, "max_perplexity_ratio": 100.0}


@dataclass(frozen=True)
class Cost:
    """What compiling took, without the proof; HTP's compiler is the same for all."""

    quantise_seconds: float
    compile_seconds: float
    peak_mb: float
    binary_mb: float
    sqnr_db: float

    @property
    def seconds(self) -> float:
        return self.quantise_seconds + self.compile_seconds


class Clock:
    """Follows a compile's events.

    Attributes:
        seconds: for how long steps other than the proof and the compiler were running.
        compile_seconds: what the compiler itself took for all graphs, as for the peer.
    """

    def __init__(self) -> None:
        self.seconds = self.compile_seconds = 0.0
        self._running: set[str] = set()
        self._since = 0.0

    def __call__(self, event: Event) -> None:
        now = time.perf_counter()
        if self._running:
            self.seconds += now - self._since
        self._since = now
        if isinstance(event, StepLog) and (found := COMPILED.search(event.line)):
            self.compile_seconds += float(found[1]) * event.name.startswith(COMPILER)
        if isinstance(event, StepStarted) and not event.name.startswith((*PROOF, COMPILER)):
            self._running.add(event.name)
        elif isinstance(event, StepFinished):
            self._running.discard(event.result.name)


def source_of(options: argparse.Namespace) -> Path:
    if options.model == "tiny":
        return TINY / "tiny-llm-q8_0.gguf"
    return random_gguf.make(options.folder, "Q4_0", size=options.model)


def compile_with_modelc(
    source: Path, options: argparse.Namespace, folder: Path
) -> tuple[modelc.Bundle, Cost]:
    text = TINY / "calibration.txt"
    verify: dict[str, Any] = {"text": TINY / "heldout.txt"}
    if options.tokens:
        verify["tokens"] = options.tokens
    if options.model != "tiny":
        verify |= LENIENT
    splits = 1 if options.peer and not options.memory_limit else "auto"
    clock = Clock()
    bundle = modelc.compile(
        source,
        target=options.target,
        quant=options.quant,
        ar=AR,
        context_length=options.context_length,
        splits=splits,
        attention=options.attention,
        memory_limit=options.memory_limit,
        output=folder / "bundle",
        store=Store(folder / "store"),
        calibration={
            "text": text,
            "samples": options.samples,
            "sequence_length": options.sequence_length,
        },
        verify=verify,
        events=clock,
    )
    assert bundle.report is not None
    files = bundle.manifest.files
    binaries = [n for n in files if n.endswith(".bin") and "/" not in n]
    return bundle, Cost(
        quantise_seconds=clock.seconds,
        compile_seconds=clock.compile_seconds,
        peak_mb=bundle.report.peak_mb,
        binary_mb=sum(files[name].size for name in binaries) / 2**20,
        sqnr_db=bundle.manifest.metrics["sqnr_db"],
    )


def compile_by_hand(
    source: Path, bundle: modelc.Bundle, options: argparse.Namespace, folder: Path
) -> Cost:
    """Let the peer compile the same model; the float graphs are a present."""
    assert bundle.report is not None
    folder.mkdir()
    length = bundle.manifest.settings["context_length"]
    model = build_decoder(read_model(source), length)
    graphs = []
    for ar in AR:
        passes = build_pipeline("htp-float", {"ar": ar, "context_length": length})
        graph, _ = run_passes(model.clone(), passes, graph=f"ar{ar}")
        path = folder / f"{GraphKey(ar, length, 1, 1).name}.onnx"
        write_model(graph, path)
        graphs.append(str(path))
    tokenizer = load_tokenizer(bundle.path)
    sequences = cut_batches(
        tokenizer.encode((TINY / "calibration.txt").read_text()),
        options.samples,
        options.sequence_length,
        tokenizer.data.bos_id if tokenizer.data.add_bos else None,
    )
    config = str(bundle.path.resolve() / "config.json")
    quantised = [graph.replace(".onnx", ".qdq.onnx") for graph in graphs]

    worker = Worker("peer_qnn.py")
    calibrated = worker.ask("quantise", graphs=graphs, config=config, sequences=sequences)
    (folder / "binary").mkdir()
    compiled = worker.ask(
        "compile", graphs=quantised, target=options.target, folder=str(folder / "binary")
    )
    peak_mb = worker.ask("peak")["mb"]
    worker.close()
    simulator = Worker("peer_qnn.py")
    reference = str(bundle.path.resolve() / "verification.npz")
    compared = simulator.ask(
        "compare",
        graphs=quantised,
        config=config,
        target=options.target,
        reference=reference,
        simulator=bundle.report.verification["runtime"] == "htp-simulator",
    )
    simulator.close()
    return Cost(
        quantise_seconds=calibrated["seconds"],
        compile_seconds=compiled["seconds"],
        peak_mb=peak_mb,
        binary_mb=compiled["mb"],
        sqnr_db=compared["sqnr_db"],
    )


def show_steps(bundle: modelc.Bundle, options: argparse.Namespace) -> None:
    assert bundle.report is not None
    rows = [[s.name, f"{s.seconds:.1f}", f"{s.peak_mb:.0f}"] for s in bundle.report.steps]
    rows.append(["in all", f"{bundle.report.seconds:.1f}", f"{bundle.report.peak_mb:.0f}"])
    aim = ""
    if options.model in AIMS:
        minutes, gigabytes = AIMS[options.model]
        aim = f"; aims: {minutes * 60} s, {gigabytes * 1024} MB"
    show(
        f"{options.model} {options.quant}, context {options.context_length or 'of the model'}, "
        f"for {options.target}{aim}",
        ["step", "seconds", "peak MB"],
        rows,
    )


def show_peer(own: Cost, peer: Cost) -> None:
    columns = {
        "calibrate, quantise s": "quantise_seconds",
        "compile s": "compile_seconds",
        "both": "seconds",
        "peak MB": "peak_mb",
        "binary MB": "binary_mb",
    }
    rows = [
        [
            name,
            *(f"{getattr(cost, field):.1f}" for field in columns.values()),
            f"{cost.sqnr_db:.1f}",
        ]
        for name, cost in (("modelc", own), ("by hand", peer))
    ]
    ratios = [f"{getattr(peer, field) / getattr(own, field):.2f}" for field in columns.values()]
    show(
        f"without the proof; aims: {PEER_AIMS}",
        ["", *columns, "SQNR dB"],
        [*rows, ["ratio", *ratios, f"{peer.sqnr_db - own.sqnr_db:+.1f}"]],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", choices=("tiny", *SHAPES), default="1b")
    parser.add_argument("--target", default="snapdragon-8-elite")
    parser.add_argument("--quant", help="scheme (default: w4a16, with --peer w8a16)")
    parser.add_argument("--context-length", type=int, help="default: 4096 or the model's own")
    parser.add_argument("--attention", choices=("sha", "grouped"), default="sha")
    parser.add_argument("--memory-limit", help="such as 8G")
    parser.add_argument("--samples", type=int, help="sequences of calibration text")
    parser.add_argument("--sequence-length", type=int, help="tokens in each")
    parser.add_argument("--tokens", type=int, help="of the text that is verified on")
    parser.add_argument("--peer", action="store_true", help="compile it by hand as well")
    parser.add_argument("--folder", type=Path, default=default_folder())
    options = parser.parse_args()
    real = options.model in AIMS
    options.quant = options.quant or ("w8a16" if options.peer else "w4a16")
    options.samples = options.samples or (4 if real else 16)
    options.sequence_length = options.sequence_length or (128 if real else 256)
    print(machine())
    options.folder.mkdir(parents=True, exist_ok=True)
    source = source_of(options)
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        bundle, own = compile_with_modelc(source, options, Path(scratch))
        show_steps(bundle, options)
        if options.peer:
            show_peer(own, compile_by_hand(source, bundle, options, Path(scratch, "peer")))
        bundle.close()


if __name__ == "__main__":
    main()
