"""What a Snapdragon plan refuses before anything runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.tiny_source import tiny_config

from modelc.decoder.config import DecoderConfig, Experts
from modelc.errors import BadInput, Where
from modelc.pipeline.plan_check import plan_problems
from modelc.pipeline.problems import Problems
from modelc.pipeline.recipe import Recipe


def checked(config: DecoderConfig, length: int | tuple[int, ...], **options: Any) -> None:
    fp16 = options.pop("fp16", False)
    lengths = length if isinstance(length, tuple) else (length,)
    options = {"ar": (16, 1), **options}
    recipe = Recipe(target="snapdragon-8-elite", **options)
    Problems(plan_problems(recipe, config, lengths, fp16)).tell()


def test_what_fits_passes() -> None:
    config = tiny_config()
    checked(config, 64)
    checked(config, (64, 48), splits=config.layers + 2)
    checked(replace(config, windows=(64,) * config.layers), 64)
    checked(replace(config, architecture="qwen3", head_dim=32), 64)
    checked(replace(config, architecture="qwen3", head_dim=64), 64, fp16=True, attention="grouped")
    checked(replace(config, architecture="qwen3", head_dim=32), 64, fp16=True)


def test_experts_are_for_graphs_of_any_size() -> None:
    experts = Experts(count=4, used=2, hidden=24, layers=(0, 1))
    config = tiny_config(architecture="mixtral", experts=experts)
    with pytest.raises(BadInput, match="mixtral is a mixture of experts") as caught:
        checked(config, 64)
    assert caught.value.hint == "compile it for --target cpu"


def test_every_problem_is_said_at_once() -> None:
    windows = (0, *(12,) * (tiny_config().layers - 1))
    config = replace(tiny_config(), architecture="qwen3", head_dim=32, windows=windows)
    with pytest.raises(BadInput) as caught:
        checked(
            config,
            (config.max_context * 2, 32, 32),
            ar=(64, 16, 16),
            fp16=True,
            attention="grouped",
            kv_bits=8,
            encodings=Path("some.json"),
        )
    for words in (
        "2 graphs would be named prompt_ar64_cl32",
        "4 graphs would be named prompt_ar16_cl32",
        "no AR-1 graph",
        "AR-64 does not fit a context of 32",
        "AR-16 is half of",
        f"longer than the model's {config.max_context}",
        "windows of 12",
        "heads 32 wide",
        "no use for the option kv_bits",
        "no use for the option encodings",
    ):
        assert words in caught.value.message, words
    for words in ("--ar 64,16,1", "--context-length 12", "--attention sha or --quant w8a16"):
        assert words in caught.value.hint, words


def test_one_problem_is_one_sentence() -> None:
    with pytest.raises(BadInput) as caught:
        checked(tiny_config(), 12)
    assert caught.value.message == "AR-16 does not fit a context of 12"


def test_what_comes_later_is_told_with_the_rest() -> None:
    problems = Problems([("first", "do this")])

    def refuse() -> int:
        raise BadInput("second", where=Where(path="there"), hint="do that")

    assert problems.attempt(refuse) is None
    assert problems.attempt(lambda: 3) == 3
    with pytest.raises(BadInput, match=r"- first\n  - second \(there\)") as caught:
        problems.tell()
    assert caught.value.hint == "do this; do that"
    Problems().tell()
