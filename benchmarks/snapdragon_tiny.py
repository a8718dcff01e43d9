"""The shipped model on a Snapdragon target: time of each step, size of binaries, accuracy.

    python benchmarks/snapdragon_tiny.py [--target NAME] [--tokens N] [--text-tokens N]

Compiles examples/tiny-llm for every scheme with an empty store. Sizes: the context binary that
ships, whose graphs share their weights, beside one binary for each graph. Accuracy, against the
float model: SQNR, top-1 agreement and perplexity of the first tokens of the held-out text in the
HTP simulator; and strided perplexity of the whole text through the quantised graphs on the CPU,
since the simulator would take hours. Needs modelc with onnxruntime-qnn (Linux on x86-64 or
Windows).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from tables import machine, show

import modelc
from modelc.decoder.builder import build_decoder
from modelc.decoder.config import load_config
from modelc.frontends import read_model
from modelc.pipeline.store import Store
from modelc.reference.stream import StreamedReference
from modelc.targets.snapdragon.decode_loop import Decoder
from modelc.targets.snapdragon.graph_names import parse
from modelc.targets.snapdragon.host import Host
from modelc.targets.snapdragon.rotary import rotary_of
from modelc.verify.evaluate import evaluate

MODEL: Final = Path(__file__).parents[1] / "examples" / "tiny-llm"
SOURCE: Final = MODEL / "tiny-llm-q8_0.gguf"
SCHEMES: Final = ("fp16", "w8a16", "w4a16", "w4a16_b32", "w4a16_lpbq")
MB: Final = 1 << 20

Logits = Callable[[Sequence[int]], np.ndarray]


def compile_scheme(scheme: str, options: argparse.Namespace, folder: Path) -> modelc.Bundle:
    return modelc.compile(
        SOURCE,
        target=options.target,
        quant=scheme,
        output=folder / scheme,
        keep_twins=True,
        dump_ir=folder / "ir",  # and with it the quantised graphs stay in the store
        store=Store(folder / "store"),
        calibration={"text": MODEL / "calibration.txt"} if scheme != "fp16" else {},
        verify={"text": MODEL / "heldout.txt", "tokens": options.tokens},
    )


def binary_mb(bundle: modelc.Bundle, twins: bool) -> float:
    """Return MB of the context binaries: those for the simulator, or those that ship."""
    files = bundle.manifest.files
    chosen = [n for n in files if n.endswith(".bin") and n.startswith("twins/") == twins]
    return sum(files[name].size for name in chosen) / MB


def graphs_on_cpu(bundle: modelc.Bundle) -> Logits:
    """Return the logits of a bundle's quantised graphs, run by ONNX Runtime as Genie runs them."""
    assert bundle.report is not None
    (step,) = (step for step in bundle.report.steps if step.name.startswith("quantize."))
    hosts = {parse(path.stem): Host(path) for path in step.path.glob("*.onnx")}
    graphs = {(key.ar, key.context_length): [host.part] for key, host in hosts.items()}
    config = load_config(bundle.path / "config.json")
    rotary = rotary_of(config, int(bundle.manifest.settings["context_length"]))
    return lambda tokens: np.concatenate(list(Decoder(graphs, rotary).read(tokens)))


def float_model(context_length: int) -> Logits:
    return StreamedReference(build_decoder(read_model(SOURCE), context_length)).logits


def text_tokens(bundle: modelc.Bundle, most: int) -> list[int]:
    return bundle.tokenizer.encode((MODEL / "heldout.txt").read_text())[:most]


def perplexity(logits: Logits, tokens: Sequence[int], context_length: int) -> float:
    # A window as long as calls of AR-128 have room for; half of it is context.
    window = context_length - 128
    return evaluate(logits, tokens, window, window // 2).perplexity


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--target", default="snapdragon-8-elite")
    parser.add_argument("--tokens", type=int, default=256, help="of the held-out text, simulated")
    parser.add_argument("--text-tokens", type=int, default=1 << 20, help="the same, on the CPU")
    options = parser.parse_args()
    print(machine())

    steps: dict[str, dict[str, str]] = {}
    sizes, accuracy = [], []
    whole = 0.0
    for scheme in SCHEMES:
        # Each in a store of its own: nothing is taken from the other scheme.
        with tempfile.TemporaryDirectory() as folder:
            bundle = compile_scheme(scheme, options, Path(folder))
            assert bundle.report is not None
            for step in bundle.report.steps:
                steps.setdefault(step.name, {})[scheme] = f"{step.seconds:.2f}"
            steps.setdefault("in all", {})[scheme] = f"{bundle.report.seconds:.2f}"
            shared, apart = binary_mb(bundle, twins=False), binary_mb(bundle, twins=True)
            sizes.append([scheme, f"{shared:.2f}", f"{apart:.2f}", f"{shared / apart:.2f}"])
            length = int(bundle.manifest.settings["context_length"])
            tokens = text_tokens(bundle, options.text_tokens)
            whole = whole or perplexity(float_model(length), tokens, length)
            on_cpu = perplexity(graphs_on_cpu(bundle), tokens, length)
            metrics = bundle.manifest.metrics
            simulated = metrics["perplexity"]
            accuracy.append(
                [
                    scheme,
                    f"{metrics['sqnr_db']:.1f}",
                    f"{metrics['top1_agreement']:.1%}",
                    f"{simulated['reference']:.2f}",
                    f"{simulated['bundle'] / simulated['reference'] - 1:+.2%}",
                    f"{whole:.3f}",
                    f"{on_cpu / whole - 1:+.2%}",
                ]
            )
            bundle.close()
    show(
        f"{options.target}: seconds of each step",
        ["step", *SCHEMES],
        [[name, *(row.get(scheme, "") for scheme in SCHEMES)] for name, row in _last(steps)],
    )
    show(f"{options.target}: binaries in MB", ["scheme", "shared", "apart", "ratio"], sizes)
    show(
        f"simulator: {options.tokens} tokens; CPU: quantised graphs, {len(tokens)} tokens",
        [
            "scheme",
            *("SQNR dB", "top-1", "float ppl", "simulator"),
            *("float ppl, whole text", "CPU"),
        ],
        accuracy,
    )


def _last(steps: dict[str, dict[str, str]]) -> list[tuple[str, dict[str, str]]]:
    """Put the sum behind the steps, whichever scheme had more of them."""
    return sorted(steps.items(), key=lambda row: row[0] == "in all")


if __name__ == "__main__":
    main()
