"""Compile the model that ships with modelc for the CPU and for a phone, run both, compare both.

Run it from anywhere: python examples/quickstart.py [output folder]
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

import modelc
from modelc.errors import Missing, ModelcError
from modelc.pipeline.events import Event, StepFinished

MODEL = Path(__file__).parent / "tiny-llm"
PROMPT = "And the king said unto the people,"
# The shipped texts: what to gather ranges on, and what to compare with the float model on.
VERIFY = {"verify_text": MODEL / "heldout.txt"}
TARGETS = {
    "cpu": VERIFY,
    # The simulator's binaries stay in the bundle, so that it can be run here.
    "snapdragon-8-elite": {
        **VERIFY,
        "calibration_text": MODEL / "calibration.txt",
        "keep_twins": True,
    },
}
NEW_TOKENS = 32

console = Console(highlight=False)


def show(event: Event) -> None:
    """Say what each step took."""
    if isinstance(event, StepFinished):
        result = event.result
        console.print(f"  {result.status:>6} {result.name} {result.seconds:.1f} s", soft_wrap=True)


def build(target: str, output: Path) -> modelc.Bundle:
    console.print(f"[bold]{target}[/bold]", soft_wrap=True)
    bundle = modelc.compile(
        MODEL / "tiny-llm-q8_0.gguf",
        target=target,
        output=output / f"tiny-llm-{target}",
        events=show,
        **TARGETS[target],
    )
    assert bundle.report is not None
    console.print(f"  {bundle.path} after {bundle.report.seconds:.1f} s", soft_wrap=True)
    return bundle


def row(bundle: modelc.Bundle) -> list[str]:
    """Generate, verify again from the bundle alone, and sum it up."""
    written = bundle.generate(PROMPT, NEW_TOKENS)
    console.print(f"  [italic]{PROMPT}[/italic]{written.text}", soft_wrap=True)
    verification = bundle.verify()
    metrics = verification.metrics
    clock = "host" if verification.runtime == "onnxruntime" else "simulator"
    return [
        bundle.manifest.target,
        str(bundle.manifest.recipe["quant"]),
        f"{model_bytes(bundle) / 1e6:.1f} MB",
        f"{metrics.sqnr_db:.1f} dB",
        f"{metrics.top1_agreement:.1%}",
        f"{metrics.reference_perplexity:.2f} / {metrics.bundle_perplexity:.2f}",
        f"{written.prefill_tokens_per_s:.0f} / {written.decode_tokens_per_s:.1f} ({clock})",
        "verified" if verification.passed else "NOT verified",
    ]


def model_bytes(bundle: modelc.Bundle) -> int:
    """What goes onto the device: all but what verification and the simulator need."""
    files = bundle.manifest.files.items()
    apart = ("verification", "twins/")
    return sum(file.size for name, file in files if not name.startswith(apart))


def main() -> int:
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("out")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in (
        "target", "scheme", "size", "SQNR", "top-1", "perplexity float / bundle",
        "tokens/s prefill / decode", "",
    ):  # fmt: skip
        table.add_column(column)
    status = 0
    for target in TARGETS:
        try:
            with build(target, output) as bundle:
                table.add_row(*row(bundle))
        except Missing as error:
            console.print(f"  left out: {error}", soft_wrap=True)
        except ModelcError as error:
            console.print(f"  failed: {error}", soft_wrap=True)
            status = error.exit_code
    Console(highlight=False, width=max(console.width, 130)).print(table)
    return status


if __name__ == "__main__":
    sys.exit(main())
