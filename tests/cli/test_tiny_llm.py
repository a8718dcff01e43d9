"""The model that comes with modelc, compiled for the CPU: as good as transformers finds it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commands import Ran

FOLDER = Path(__file__).parents[2] / "examples" / "tiny-llm"
TOKENS = 512  # one window

pytestmark = pytest.mark.skipif(
    not (FOLDER / "tiny-llm-q8_0.gguf").exists(), reason="needs the example's weights"
)


def expected_perplexity(text: str) -> float:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(FOLDER / "hf", dtype=torch.float32).eval()
    token_ids = AutoTokenizer.from_pretrained(FOLDER / "hf")(text).input_ids[:TOKENS]
    ids = torch.tensor([token_ids])
    with torch.no_grad():
        return math.exp(float(model(ids, labels=ids).loss))


@pytest.mark.parametrize(("quant", "most"), [("q8_0", 1.01), ("q4_0", 1.2)])
def test_perplexity(quant: str, most: float, call: Callable[..., Ran], tmp_path: Path) -> None:
    bundle, text = tmp_path / "tiny", FOLDER / "heldout.txt"
    source = FOLDER / f"tiny-llm-{quant}.gguf"
    options = ("-t", "cpu", "-o", bundle, "--verify-text", text, "--json")
    verification = call("compile", source, *options).json()["verify"]
    assert verification["passed"] and verification["metrics"]["tokens"] <= TOKENS
    document = call("eval", bundle, "--text", text, "--tokens", TOKENS, "--json").json()
    assert document["tokens"] == TOKENS - 1
    expected = expected_perplexity(text.read_text())
    assert 1 / most < document["perplexity"] / expected < most
    told = call("run", bundle, "--prompt", "And the LORD", "--max-new-tokens", 8, "--json").json()
    assert told["text"].strip()
