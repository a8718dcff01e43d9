"""What a Snapdragon target refuses before anything long runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.tiny_source import tiny_config

from modelc.decoder.config import DecoderConfig, save_config
from modelc.errors import BadInput
from modelc.pipeline.step import StepContext
from modelc.pipeline.steps import CONFIG, FACTS
from modelc.pipeline.steps_snapdragon import check

Check = Callable[..., None]


@pytest.fixture
def checked(tmp_path: Path) -> Check:
    """Run the step on a decoder's configuration."""

    def run(config: DecoderConfig, length: int, **options: Any) -> None:
        save_config(config, tmp_path / CONFIG)
        (tmp_path / FACTS).write_text(json.dumps({"context_length": length}))
        inputs = {"import": tmp_path, "canonical": tmp_path}
        given = {"ar": [16, 1], "fp16": False, **options}
        check(StepContext(inputs, given, {}, tmp_path, tmp_path))

    return run


def test_what_fits_passes(checked: Check) -> None:
    checked(tiny_config(), 64)
    checked(replace(tiny_config(), windows=(64,) * tiny_config().layers), 64)
    checked(replace(tiny_config(), architecture="qwen3", head_dim=32), 64)
    checked(replace(tiny_config(), architecture="qwen3", head_dim=64), 64, fp16=True)


def test_every_problem_is_said_at_once(checked: Check) -> None:
    windows = (0, *(12,) * (tiny_config().layers - 1))
    config = replace(tiny_config(), architecture="qwen3", head_dim=32, windows=windows)
    with pytest.raises(BadInput) as caught:
        checked(config, 32, ar=[64, 16, 1], fp16=True)
    for words in ("AR-64 does not fit", "AR-16 is half of", "windows of 12 of 32", "32 wide"):
        assert words in caught.value.message
    for words in ("--ar", "--context-length 12", "--quant w8a16"):
        assert words in caught.value.hint
