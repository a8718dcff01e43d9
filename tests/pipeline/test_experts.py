"""A mixture of experts compiled for the CPU, with too few calibration tokens for its experts."""

from __future__ import annotations

from pathlib import Path

from support.random_models import make

import modelc
from modelc.pipeline.store import Store


def test_experts_that_no_token_went_to_are_named(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("In the")
    bundle = modelc.compile(
        make("qwen3_moe", tmp_path / "model"),
        target="cpu",
        quant="w8",
        algorithms="gptq",
        calibration_text=text,
        verify_tokens=32,
        output=tmp_path / "bundle",
        store=Store(tmp_path / "store"),
    )
    named = bundle.manifest.settings["unreached_experts"]
    assert named and all(".mlp.experts." in module for module in named)
    report = (tmp_path / "bundle" / "report.md").read_text()
    assert f"No calibration token went to {len(named)} of the experts' matrices" in report
    assert named[0] in report
