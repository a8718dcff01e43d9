"""Graphs for the card give the reference's logits, run through the bodies of its operators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.card import assert_close, open_loop, reference, write_card_graph
from support.random_models import VOCAB, make
from support.tiny_source import tiny_config, tiny_source, write_weights

from modelc.decoder.config import DecoderModel, Rope
from modelc.frontends import read_source

IDS = [
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma2",
    "phi3",
    "llama-bias",
    "phi3-partial-longrope",
]
TOKENS = np.random.default_rng(0).integers(0, 40, (4, 40))


@pytest.fixture
def source(tmp_path: Path) -> DecoderModel:
    made = tiny_source(tiny_config(windows=(0, 7)), tmp_path / "weights.bin")
    write_weights(made)
    return made


@pytest.mark.parametrize("identity", IDS)
def test_every_architecture(identity: str, tmp_path: Path) -> None:
    source = read_source(make(identity, tmp_path / "model"))
    loop = open_loop(write_card_graph(source, tmp_path), prefill_seq_len=16)
    tokens = [*np.random.default_rng(0).integers(0, VOCAB, 44)]
    expected = reference(source, tokens)
    assert_close(loop.prefill({0: tokens[:37]})[0], expected[36])  # 16, 16, 5 and padding
    for at in range(37, 44):
        assert_close(loop.decode({0: [tokens[at]]}, {0: at})[0, 0], expected[at])


def test_the_older_contract(source: DecoderModel, tmp_path: Path) -> None:
    for batched in (False, True):
        folder = tmp_path / str(batched)
        folder.mkdir()
        path = write_card_graph(source, folder, opset=13, continuous_batching=batched)
        loop = open_loop(path, prefill_seq_len=16, continuous_batching=batched)
        assert_close(loop.prefill({0: TOKENS[0]})[0], reference(source, TOKENS[0])[-1])


def test_a_full_context(source: DecoderModel, tmp_path: Path) -> None:
    """Padding in the call that fills the last position writes nowhere else."""
    loop = open_loop(write_card_graph(source, tmp_path), context=40, prefill_seq_len=16)
    expected = reference(source, TOKENS[0])
    assert_close(loop.prefill({0: TOKENS[0]})[0], expected[-1])
    assert_close(loop.decode({0: TOKENS[0][-1:]}, {0: 39})[0, 0], expected[-1])


def test_sequences_side_by_side(source: DecoderModel, tmp_path: Path) -> None:
    """A batch of different lengths, and what a state held before doesn't show."""
    loop = open_loop(write_card_graph(source, tmp_path), prefill_seq_len=8, sequences=3)
    loop.prefill(dict.fromkeys(range(3), TOKENS[3]))
    lengths = {0: 5, 1: 24, 2: 17}
    found = loop.prefill({slot: TOKENS[slot][:n] for slot, n in lengths.items()})
    expected = [reference(source, TOKENS[slot]) for slot in range(3)]
    assert_close(found, np.stack([expected[slot][n - 1] for slot, n in lengths.items()]))
    tokens = {slot: TOKENS[slot][n : n + 1] for slot, n in lengths.items()}
    found = loop.decode(tokens, lengths)[:, 0]
    assert_close(found, np.stack([expected[slot][n] for slot, n in lengths.items()]))


def test_continuous_batching(source: DecoderModel, tmp_path: Path) -> None:
    """A prompt goes into one state while others are half-way; decoding may leave some out."""
    path = write_card_graph(source, tmp_path, continuous_batching=True)
    loop = open_loop(path, prefill_seq_len=8, sequences=4, continuous_batching=True)
    expected = [reference(source, row) for row in TOKENS]
    loop.prefill({2: TOKENS[2][:20], 0: TOKENS[0][:11]})
    found = loop.decode({2: TOKENS[2][20:21], 0: TOKENS[0][11:12]}, {2: 20, 0: 11})[:, 0]
    assert_close(found, np.stack([expected[2][20], expected[0][11]]))
    assert_close(loop.prefill({3: TOKENS[3][:30]})[0], expected[3][29])
    past = {0: 12, 2: 21, 3: 30}
    found = loop.decode({slot: TOKENS[slot][at : at + 1] for slot, at in past.items()}, past)[:, 0]
    assert_close(found, np.stack([expected[slot][at] for slot, at in past.items()]))


def test_prefix_caching(source: DecoderModel, tmp_path: Path) -> None:
    """A prompt goes on from what another left in a state, which only its prefix is kept of."""
    path = write_card_graph(source, tmp_path, continuous_batching=True)
    loop = open_loop(path, prefill_seq_len=8, sequences=6, continuous_batching=True)
    loop.prefill({5: TOKENS[0]})
    joined = [*TOKENS[0][:19], *TOKENS[1][:9]]
    found = loop.prefill({5: TOKENS[1][:9]}, start=19)
    assert_close(found[0], reference(source, joined)[-1])


def test_speculated_tokens(source: DecoderModel, tmp_path: Path) -> None:
    """Four tokens verified at once; those that turn out wrong are written over."""
    path = write_card_graph(source, tmp_path, num_logits_to_keep=True)
    loop = open_loop(path, prefill_seq_len=16, decode_seq_len=4)
    expected = reference(source, TOKENS[0])
    assert_close(loop.prefill({0: TOKENS[0][:21]})[0], expected[20])
    loop.decode({0: TOKENS[1][:4]}, {0: 21})
    found = loop.decode({0: TOKENS[0][21:25]}, {0: 21})
    assert_close(found[0], expected[21:25])
    assert_close(loop.decode({0: TOKENS[0][25:27]}, {0: 25})[0, :2], expected[25:27])


@pytest.mark.parametrize("batched", [False, True])
def test_compute_context_lengths(source: DecoderModel, tmp_path: Path, batched: bool) -> None:
    path = write_card_graph(source, tmp_path, comp_ctx_lengths=True, continuous_batching=batched)
    lengths: dict[str, Any] = {"prefill_lengths": (16, 40, 64), "decode_lengths": (48, 64)}
    loop = open_loop(path, prefill_seq_len=8, continuous_batching=batched, **lengths)
    tokens = [*TOKENS[0], *TOKENS[1][:15]]
    expected = reference(source, tokens)
    assert_close(loop.prefill({0: tokens[:45]})[0], expected[44])
    for at in range(45, 55):
        assert_close(loop.decode({0: tokens[at : at + 1]}, {0: at})[0, 0], expected[at])


@pytest.mark.parametrize("part", ["prefill", "decode"])
def test_one_half_alone(part: str, source: DecoderModel, tmp_path: Path) -> None:
    loop = open_loop(write_card_graph(source, tmp_path), prefill_seq_len=24)
    expected = reference(source, TOKENS[0])
    if part == "prefill":
        assert_close(loop.prefill({0: TOKENS[0]})[0], expected[-1])
    else:
        rows = [loop.decode({0: [token]}, {0: at})[0, 0] for at, token in enumerate(TOKENS[0])]
        assert_close(np.stack(rows), expected)


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_repeated_heads(architecture: str, tmp_path: Path) -> None:
    config = tiny_config(architecture=architecture, heads=8, rope=Rope(dim=8))
    source = tiny_source(config, tmp_path / "weights.bin", biases=True)
    write_weights(source)
    loop = open_loop(write_card_graph(source, tmp_path, repeat_kv_heads=2), prefill_seq_len=16)
    shapes = {argument.shape[1] for argument in loop.engine._session.get_inputs()[2:]}  # type: ignore[attr-defined]
    assert shapes == {4}
    assert_close(loop.prefill({0: TOKENS[0]})[0], reference(source, TOKENS[0])[-1])
