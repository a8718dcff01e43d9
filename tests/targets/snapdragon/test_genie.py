"""Genie, the runtime of a device, makes of the same binaries the tokens that our own loop makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import random_models
from support.htp_decoder import CHIPSET, Lowered, lower

from modelc.decoder.config import DecoderSource, Rope
from modelc.errors import BadInput, Damaged, ToolFailed
from modelc.targets.runtime import Sampling
from modelc.targets.snapdragon.chipsets import find_chipset
from modelc.targets.snapdragon.genie import Genie

pytest.importorskip("onnxruntime_qnn", reason="Genie is not here")
pytestmark = pytest.mark.simulator

TOKENS = np.random.default_rng(5).integers(3, 384, 40).tolist()
GREEDY = Sampling()


# One token, an AR, one more, and the most that Genie reads: 32 - 8 + 1.
@pytest.mark.parametrize(
    ("scheme", "length"),
    [
        ("w8a16", 1),
        ("w8a16", 9),
        ("w8a16", 25),
        ("fp16", 8),
        ("fp16", 25),
        ("w4a16_lpbq", 9),
        ("w8a16, kv16", 9),
    ],
)
def test_greedy_tokens(scheme: str, length: int, tiny: Callable[[str], Any]) -> None:
    """As many as fit, to the context's end."""
    seen: list[int] = []
    found = tiny(scheme).genie().generate(TOKENS[:length], GREEDY, 12, (), seen.append)
    expected = tiny(scheme).simulator().generate(TOKENS[:length], GREEDY, 12, ())
    assert found.token_ids == expected.token_ids
    assert len(found.token_ids) == min(12, 32 - length)
    assert seen == list(found.token_ids)
    assert found.prompt_tokens == length
    assert found.prefill_seconds > 0 and found.decode_seconds > 0


def test_a_stop_token_ends_it(tiny: Callable[[str], Any]) -> None:
    genie = tiny("w8a16").genie()
    free = genie.generate(TOKENS[:9], GREEDY, 6, ()).token_ids
    stop = free[3]
    stopped = genie.generate(TOKENS[:9], GREEDY, 6, (383, stop)).token_ids
    assert stopped == free[: free.index(stop)]


def test_a_seed_repeats(tiny: Callable[[str], Any]) -> None:
    genie = tiny("w8a16").genie()
    sampling = Sampling(2.0, top_k=50, top_p=0.95, repetition_penalty=1.1, seed=3)
    draws = [
        genie.generate(TOKENS[:9], choice, 8, ()).token_ids
        for choice in (sampling, sampling, replace(sampling, seed=4))
    ]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize(("prompt", "message"), [([], "no tokens"), (TOKENS[:26], "at most 25")])
def test_prompts_that_genie_can_not_read(
    prompt: list[int], message: str, tiny: Callable[[str], Any]
) -> None:
    with pytest.raises(BadInput, match=message):
        tiny("w8a16").genie().generate(prompt, GREEDY, 1, ())


def test_the_turns_of_a_dialog(tiny: Callable[[str], Any]) -> None:
    """BOS comes before every turn, and EOS after an answer that was cut off."""
    made, tokenizer = tiny("w8a16"), random_models.tokenizer()
    bos, eos, turns = 0, made.model.eos_ids[0], ["the earth", "and", "def"]
    read: list[int] = []
    expected = []
    for turn in turns:
        read += [bos, *tokenizer.encode(turn, add_special_tokens=False)]
        answer = made.simulator().generate(read, GREEDY, 3, ()).token_ids
        read += [*answer, eos]
        expected.append(tokenizer.decode(answer))
    assert all(expected)
    genie = made.genie(replace(made.model, bos_id=bos))
    assert genie.chat(turns, GREEDY, 3) == expected
    with pytest.raises(BadInput, match="Genie's context is full"):
        genie.chat(["and the darkness " * 8], GREEDY, 3)


def test_binaries_that_it_can_not_load(tiny: Callable[[str], Any], tmp_path: Path) -> None:
    made = tiny("w8a16")
    path = tmp_path / "token_ar1_cl32_1_of_1.bin"

    def generate() -> None:
        chipset, tokenizer = find_chipset(CHIPSET), made.tokenizer
        genie = Genie(made.model, chipset, [path], tokenizer, workdir=tmp_path, timeout_s=60)
        genie.generate([5], GREEDY, 1, ())

    path.write_bytes(b"not a binary")
    with pytest.raises(Damaged, match="not a context binary"):
        generate()
    whole = made.wrappers[1].with_suffix(".bin").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises((Damaged, ToolFailed)) as caught:
        generate()
    assert caught.value.hint or caught.value.where.path


def test_time_is_limited(tiny: Callable[[str], Any]) -> None:
    with pytest.raises(ToolFailed, match="was stopped after"):
        tiny("w8a16").genie(timeout_s=0.01).generate([5], GREEDY, 1, ())


@pytest.mark.parametrize(
    "rope",
    [
        Rope("llama3", theta=500_000.0, dim=16, factor=8.0, original_context=12),
        Rope("yarn", dim=16, factor=4.0, original_context=12),
    ],
    ids=lambda rope: rope.kind,
)
def test_scaled_rotary_embeddings(
    rope: Rope, source: DecoderSource, compile_tiny: Callable[[Lowered], Any], tmp_path: Path
) -> None:
    """Genie's own formula, or its longrope with our divisors: the tokens are the loop's."""
    scaled = replace(source, config=replace(source.config, rope=rope))
    tiny = compile_tiny(lower(scaled, 32, "w8a16", tmp_path / "graphs"))
    found = tiny.genie().generate(TOKENS[:20], GREEDY, 12, ())
    assert found.token_ids == tiny.simulator().generate(TOKENS[:20], GREEDY, 12, ()).token_ids
