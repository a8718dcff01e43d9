"""What quantisation leaves of a model: modelc beside AIMET, ONNX Runtime's quantisers, llama.cpp.

    python benchmarks/quality.py [--peer-python NAME=PATH ...] [--models NAME ...] [--rows TEXT ...]

For each shipped model one table: all engines start from the same fp16 weights, calibrate on the
same text and read the same windows of the same held-out tokens (each token scored once, half a
window before it). Change: of perplexity against float, and its standard error over the tokens.
Top-1: positions whose most likely token is the float model's. KL: mean divergence from the float
model's distribution, in nats: by so much the logarithm of perplexity would rise on text as the
float model writes it. It tells apart what perplexity can't on so few tokens.

Bits of a weight, with scales: of the layers' matrices, of the head, of the embedding; MB: of all
three. A tied head is counted once in llama.cpp's files; elsewhere head and table are two.

Peers run in processes of their own, AIMET and llama.cpp in the interpreters that --peer-python
names (`python -m venv v && v/bin/pip install aimet-onnx`, or `llama-cpp-python`); a peer that is
not there has a row that says so. Needs modelc with its development extra (torch, transformers).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from quality_modelc import RECIPES, Runner, numbers
from quality_peers import PEERS, Absent, Files, run_peer
from quality_text import Text, cut, score
from tables import machine, show
from tokenizers import Tokenizer

EXAMPLES: Final = Path(__file__).parents[1] / "examples"
TEXTS: Final = EXAMPLES / "tiny-llm"
MODELS: Final = {"tiny-llm": "llama", "tiny-qwen3": "qwen3"}
COLUMNS: Final = (
    *("engine", "weights", "layers", "head", "table", "MB"),
    *("perplexity", "change", "±", "top-1", "KL", "s"),
)


@dataclass(frozen=True)
class Row:
    """What one engine makes of a model."""

    engine: str
    label: str
    bits: tuple[float, float, float]
    logits: np.ndarray
    seconds: float


class Table:
    """Rows against the float model's logits."""

    def __init__(self, text: Text, wanted: np.ndarray, sizes: tuple[int, int, int]) -> None:
        self._text, self._wanted, self._sizes = text, wanted, sizes
        self._float = score(text, wanted, wanted).perplexity
        self.rows = [["float", "", *[""] * 4, f"{self._float:.4f}", *[""] * 5]]

    def add(self, row: Row) -> None:
        found = score(self._text, row.logits, self._wanted)
        size = sum(n * bits for n, bits in zip(self._sizes, row.bits, strict=True)) / 8
        cells = [
            *(row.engine, row.label, *(f"{bits:.2f}" for bits in row.bits), f"{size / 1e6:.2f}"),
            *(f"{found.perplexity:.4f}", f"{found.perplexity / self._float - 1:+.3%}"),
            *(
                f"{found.error:.3%}",
                f"{found.top1:.1%}",
                f"{found.divergence:.5f}",
                f"{row.seconds:.0f}",
            ),
        ]
        self._say(cells)

    def miss(self, engine: str, label: str, why: str) -> None:
        self._say([engine, label, *[""] * 4, why, *[""] * 5])

    def _say(self, cells: list[str]) -> None:
        print("  ".join(cell for cell in cells if cell), file=sys.stderr, flush=True)
        self.rows.append(cells)


def read_text(window: int, most: int) -> Text:
    tokenizer = Tokenizer.from_file(str(TEXTS / "hf" / "tokenizer.json"))

    def tokens(name: str) -> np.ndarray:
        return np.array(tokenizer.encode((TEXTS / name).read_text(encoding="utf-8")).ids)

    return cut(tokens("heldout.txt"), tokens("calibration.txt"), window, window // 2, most)


def prepare(model: Path, text: Text, folder: Path) -> Files:
    """Write what peers start from: an ONNX file, a GGUF file and the text."""
    files = Files(folder / "model.onnx", folder / "f32.gguf", folder / "text.npz")
    text.save(files.text)
    length = str(text.windows.shape[1])
    here = Path(__file__).parent
    for script, *arguments in (
        (here / "export_onnx.py", files.onnx, length),
        (TEXTS / "gguf_file.py", files.gguf, "--kind", "f32"),
    ):
        command = [sys.executable, script, model, *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return files


def measure(name: str, options: argparse.Namespace, text: Text, folder: Path) -> Table:
    model = EXAMPLES / name / "hf"
    runner = Runner(model, text, TEXTS / "calibration.txt", folder / "store")
    table = Table(text, runner.float_logits(), numbers(model))
    for row in own_rows(runner, options):
        table.add(row)
    files = prepare(model, text, folder)
    for peer in PEERS:
        labels = [label for label in peer.rows if wanted(options, f"{peer.name} {label}")]
        python = options.peer_python.get(peer.name)
        for label, found in run_peer(peer, labels, python, files, MODELS[name], options.threads):
            if isinstance(found, Absent):
                table.miss(peer.name, label, found.why)
            else:
                table.add(Row(peer.name, label, found.bits, found.logits, found.seconds))
    return table


def own_rows(runner: Runner, options: argparse.Namespace) -> Iterator[Row]:
    for recipe in RECIPES:
        if wanted(options, f"modelc {recipe.label}"):
            found = runner.run(recipe)
            yield Row("modelc", recipe.label, found.bits, found.logits, found.seconds)


def wanted(options: argparse.Namespace, name: str) -> bool:
    return not options.rows or any(part in name for part in options.rows)


def named_path(text: str) -> tuple[str, str]:
    name, separator, path = text.partition("=")
    if not separator or name not in {peer.name for peer in PEERS}:
        raise argparse.ArgumentTypeError(f"not NAME=PATH with a peer's name: {text}")
    return name, path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peer-python", type=named_path, action="append", default=[])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument(
        "--rows", nargs="+", default=[], help="only those that contain one of these"
    )
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=12032, help="of the held-out text, at most")
    parser.add_argument("--threads", type=int, default=2, help="of the peers")
    options = parser.parse_args()
    options.peer_python = dict(options.peer_python)
    print(machine())
    text = read_text(options.window, options.tokens)
    for name in options.models:
        with tempfile.TemporaryDirectory() as folder:
            table = measure(name, options, text, Path(folder))
        title = f"{name}: {len(text.targets)} tokens, windows of {options.window}"
        show(title, COLUMNS, table.rows)


if __name__ == "__main__":
    main()
