"""The shipped model on a Snapdragon target: time of each step, size of binaries, accuracy.

    python benchmarks/snapdragon_tiny.py [--target snapdragon-8-elite] [--tokens N]

Compiles examples/tiny-llm for fp16 and w8a16 with an empty store. Sizes: the context binary that
ships, whose graphs share their weights, beside one binary for each graph. Accuracy: SQNR, top-1
agreement and perplexity of the held-out text in the HTP simulator, against the float model. Needs
modelc with onnxruntime-qnn (Linux on x86-64 or Windows).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tables import machine, show

import modelc
from modelc.pipeline.store import Store

MODEL = Path(__file__).parents[1] / "examples" / "tiny-llm"
SCHEMES = ("fp16", "w8a16")
MB = 1 << 20


def compile_scheme(scheme: str, options: argparse.Namespace, folder: Path) -> modelc.Bundle:
    return modelc.compile(
        MODEL / "tiny-llm-q8_0.gguf",
        target=options.target,
        quant=scheme,
        output=folder / scheme,
        keep_twins=True,
        store=Store(folder / "store"),
        calibration={"text": MODEL / "calibration.txt"} if scheme != "fp16" else {},
        verify={"text": MODEL / "heldout.txt", "tokens": options.tokens},
    )


def binary_mb(bundle: modelc.Bundle, twins: bool) -> float:
    """Return MB of the context binaries: those for the simulator, or those that ship."""
    files = bundle.manifest.files
    chosen = [n for n in files if n.endswith(".bin") and n.startswith("twins/") == twins]
    return sum(files[name].size for name in chosen) / MB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--target", default="snapdragon-8-elite")
    parser.add_argument("--tokens", type=int, default=256, help="of the held-out text")
    options = parser.parse_args()
    print(machine())

    steps: dict[str, dict[str, str]] = {}
    summary = []
    for scheme in SCHEMES:
        # Each in a store of its own: nothing is taken from the other scheme.
        with tempfile.TemporaryDirectory() as folder:
            bundle = compile_scheme(scheme, options, Path(folder))
            assert bundle.report is not None
            for step in bundle.report.steps:
                steps.setdefault(step.name, {})[scheme] = f"{step.seconds:.2f}"
            steps.setdefault("in all", {})[scheme] = f"{bundle.report.seconds:.2f}"
            shared, apart = binary_mb(bundle, twins=False), binary_mb(bundle, twins=True)
            metrics = bundle.manifest.metrics
            summary.append(
                [
                    scheme,
                    f"{shared:.2f}",
                    f"{apart:.2f}",
                    f"{shared / apart:.2f}",
                    f"{metrics['sqnr_db']:.1f}",
                    f"{metrics['top1_agreement']:.1%}",
                    f"{metrics['perplexity']['reference']:.2f}",
                    f"{metrics['perplexity']['bundle']:.2f}",
                    str(metrics["tokens"]),
                ]
            )
            bundle.close()
    show(
        f"{options.target}: seconds of each step",
        ["step", *SCHEMES],
        [[name, *(row.get(scheme, "") for scheme in SCHEMES)] for name, row in _last(steps)],
    )
    show(
        f"{options.target}: binaries in MB, accuracy in the HTP simulator",
        ["scheme", "shared", "apart", "ratio", "SQNR dB", "top-1", "float ppl", "ppl", "tokens"],
        summary,
    )


def _last(steps: dict[str, dict[str, str]]) -> list[tuple[str, dict[str, str]]]:
    """Put the sum behind the steps, whichever scheme had more of them."""
    return sorted(steps.items(), key=lambda row: row[0] == "in all")


if __name__ == "__main__":
    main()
