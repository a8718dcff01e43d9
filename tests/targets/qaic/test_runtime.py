"""The decode loop on ONNX Runtime: chunked prompts, continuous batching, streaming, times."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.card import CONTEXT, assert_close, reference, write_card_graph
from support.tiny_source import tiny_config, tiny_source, write_weights

from modelc.decoder.config import DecoderModel
from modelc.errors import BadInput, Damaged, Missing
from modelc.targets.qaic.engine import CallShapes
from modelc.targets.qaic.engine_onnx import OnnxEngine
from modelc.targets.qaic.loop import Loop
from modelc.targets.qaic.runtime import CardRuntime, open_runtime
from modelc.targets.runtime import Sampling

Greedy = Callable[[list[int], int], tuple[int, ...]]
PROMPTS = [list(np.random.default_rng(n).integers(0, 40, 5 + 6 * n)) for n in range(5)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> DecoderModel:
    made = tiny_source(tiny_config(), tmp_path_factory.mktemp("source") / "weights.bin")
    write_weights(made)
    return made


def opened(path: Path, **settings: object) -> CardRuntime:
    shapes = {"context_length": CONTEXT, "prefill_seq_len": 8, "threads": 1, **settings}
    return open_runtime({"model": path}, shapes)


@pytest.fixture(scope="module")
def greedy(source: DecoderModel) -> Greedy:
    """The float model's own answer to a prompt, of so many tokens."""

    @cache
    def following(*tokens: int) -> int:
        return int(reference(source, tokens)[-1].argmax())

    def answer(prompt: list[int], count: int) -> tuple[int, ...]:
        tokens = [*prompt]
        for _ in range(count):
            tokens.append(following(*tokens))
        return tuple(tokens[len(prompt) :])

    return answer


def test_logits_and_tokens(source: DecoderModel, greedy: Greedy, tmp_path: Path) -> None:
    runtime = opened(write_card_graph(source, tmp_path))
    expected = reference(source, PROMPTS[3])
    logits = runtime.logits(PROMPTS[3])
    assert_close(logits, expected)
    (finding,) = runtime.findings(PROMPTS[3], logits)
    assert finding.passed
    assert not runtime.findings(PROMPTS[3], logits[::-1])[0].passed
    streamed: list[int] = []
    made = runtime.generate(PROMPTS[1], Sampling(), 6, (), streamed.append)
    assert made.token_ids == tuple(streamed) == greedy(PROMPTS[1], 6)
    assert made.prompt_tokens == len(PROMPTS[1])
    assert made.prefill_seconds > 0 and made.decode_tokens_per_s > 0
    runtime.close()


def test_it_ends_at_stop_tokens_and_with_the_context(
    source: DecoderModel, greedy: Greedy, tmp_path: Path
) -> None:
    runtime = opened(write_card_graph(source, tmp_path))
    expected = greedy(PROMPTS[1], 6)
    stop = expected[3]
    first = expected.index(stop)
    made = runtime.generate(PROMPTS[1], Sampling(), 6, (stop,))
    assert made.token_ids == expected[:first]
    long = [*range(30), *range(30)]
    made = runtime.generate(long, Sampling(), 100, ())
    assert len(made.token_ids) == CONTEXT - len(long) + 1
    assert runtime.generate(long, Sampling(), 0, ()).token_ids == ()


@pytest.mark.parametrize("batched", [False, True])
def test_prompts_side_by_side(
    source: DecoderModel, greedy: Greedy, tmp_path: Path, batched: bool
) -> None:
    """More prompts than slots: each gives what it gives alone, and continuous batching lets one
    start before its neighbour has ended."""
    path = write_card_graph(source, tmp_path, continuous_batching=batched)
    runtime = opened(path, sequences=2, continuous_batching=batched)
    expected = [greedy(prompt, 6) for prompt in PROMPTS]
    stop = expected[0][2]
    expected = [row[: row.index(stop)] if stop in row else row for row in expected]
    told: list[tuple[int, int]] = []
    made = runtime.generate_all(
        PROMPTS, Sampling(), 6, (stop,), lambda prompt, token: told.append((prompt, token))
    )
    assert [row.token_ids for row in made] == expected
    for prompt, row in enumerate(expected):
        assert tuple(token for owner, token in told if owner == prompt) == row
    third = told.index((2, expected[2][0]))
    last_of_second = max(place for place, (owner, _) in enumerate(told) if owner == 1)
    assert (third < last_of_second) == batched


def test_speculation_and_shorter_lengths(
    source: DecoderModel, greedy: Greedy, tmp_path: Path
) -> None:
    """The other contracts generate the same tokens."""
    path = write_card_graph(source, tmp_path, num_logits_to_keep=True, comp_ctx_lengths=True)
    lengths = {"prefill_lengths": [16, 64], "decode_lengths": [32, 64]}
    runtime = opened(path, decode_seq_len=3, **lengths)
    made = runtime.generate(PROMPTS[4], Sampling(), 8, ())
    assert made.token_ids == greedy(PROMPTS[4], 8)
    short = opened(path, prefill_lengths=[16], decode_lengths=[64])
    with pytest.raises(BadInput, match="position 23 is beyond the 16"):
        short.generate(PROMPTS[4], Sampling(), 8, ())


@pytest.mark.parametrize(
    "sampling",
    [Sampling(), Sampling(repetition_penalty=1.5), Sampling(temperature=0.7, top_k=1)],
    ids=["greedy", "penalty", "top-1"],
)
def test_tokens_chosen_on_the_card(
    sampling: Sampling, source: DecoderModel, tmp_path: Path
) -> None:
    """They are those that the host chooses of the logits, which the graph shows as well."""
    plain = opened(write_card_graph(source, tmp_path), sequences=2)
    other = tmp_path / "other"
    other.mkdir()
    options = {"continuous_batching": True, "max_top_k": 12}
    path = write_card_graph(source, other, **options)
    runtime = opened(path, sequences=2, **options)
    assert_close(runtime.logits(PROMPTS[1]), reference(source, PROMPTS[1]))
    made = runtime.generate_all(PROMPTS, sampling, 6, ())
    expected = plain.generate_all(PROMPTS, sampling, 6, ())
    assert [row.token_ids for row in made] == [row.token_ids for row in expected]


def test_random_tokens_follow_the_seed(source: DecoderModel, tmp_path: Path) -> None:
    path = write_card_graph(source, tmp_path, max_top_k=12)
    runtime = opened(path, max_top_k=12)
    seeds = [Sampling(temperature=3.0, seed=seed) for seed in (1, 1, 2, 3)]
    made = [runtime.generate(PROMPTS[0], seed, 12, ()).token_ids for seed in seeds]
    assert made[0] == made[1] and len(set(made)) == 3


def test_more_states_than_a_call_takes(
    source: DecoderModel, greedy: Greedy, tmp_path: Path
) -> None:
    """Prefix caching: six states, decoding calls of two; a state is picked by its number."""
    path = write_card_graph(source, tmp_path, continuous_batching=True)
    shapes = CallShapes(CONTEXT, 8, 6, True, decode_sequences=2)
    loop = Loop(OnnxEngine(path, shapes, threads=1), shapes)
    loop.prefill({5: PROMPTS[3], 1: PROMPTS[2]})
    past = {5: len(PROMPTS[3]), 1: len(PROMPTS[2])}
    found = loop.decode({5: [3], 1: [4]}, past)[:, 0]
    expected = [reference(source, [*PROMPTS[3], 3])[-1], reference(source, [*PROMPTS[2], 4])[-1]]
    assert_close(found, np.stack(expected))
    with pytest.raises(BadInput, match="1 tokens of 2 sequences"):
        loop.decode({0: [1], 1: [1], 2: [1]}, {0: 0, 1: 0, 2: 0})
    runtime = CardRuntime(loop.engine, shapes)
    made = runtime.generate_all(PROMPTS, Sampling(), 4, ())
    assert [row.token_ids for row in made] == [greedy(prompt, 4) for prompt in PROMPTS]


@pytest.mark.parametrize("half", ["prefill", "decode"])
def test_one_half_alone(half: str, source: DecoderModel, greedy: Greedy, tmp_path: Path) -> None:
    runtime = opened(write_card_graph(source, tmp_path), half=half)
    logits = runtime.logits(PROMPTS[2])
    assert_close(logits, reference(source, PROMPTS[2]))
    assert all(finding.passed for finding in runtime.findings(PROMPTS[2], logits))
    first = greedy(PROMPTS[2], 3)
    assert runtime.generate(PROMPTS[2], Sampling(), 1, ()).token_ids == first[:1]
    if half == "decode":
        assert runtime.generate(PROMPTS[2], Sampling(), 3, ()).token_ids == first
    else:
        with pytest.raises(BadInput, match="has a prefill only"):
            runtime.generate(PROMPTS[2], Sampling(), 3, ())


def test_weights_in_chunks(source: DecoderModel, tmp_path: Path) -> None:
    from modelc.ir.write import write_model
    from modelc.passes.qaic.build import build_card_graph

    path = tmp_path / "model.onnx"
    write_model(build_card_graph(source, CONTEXT), path, chunk_bytes=12_000)
    assert len([*tmp_path.glob("model.onnx*.data")]) > 2
    assert all(p.stat().st_size <= 12_000 for p in tmp_path.glob("model.onnx*.data"))
    assert_close(opened(path).logits(PROMPTS[0]), reference(source, PROMPTS[0]))


def test_what_is_refused(source: DecoderModel, tmp_path: Path) -> None:
    path = write_card_graph(source, tmp_path)
    runtime = opened(path)
    with pytest.raises(BadInput, match="65 tokens"):
        runtime.generate([1] * (CONTEXT + 1), Sampling(), 1, ())
    with pytest.raises(BadInput, match="don't fit"):
        CallShapes(context_length=16, prefill_seq_len=32)
    with pytest.raises(BadInput, match="don't rise"):
        CallShapes(context_length=16, decode_lengths=(8, 32))
    model = onnx.load(path, load_external_data=False)
    del model.functions[:]
    onnx.save(model, tmp_path / "bare.onnx")
    with pytest.raises(Damaged, match="ONNX Runtime can't load it"):
        opened(tmp_path / "bare.onnx")
    (tmp_path / "model.onnx.data").write_bytes(b"")
    with pytest.raises(BadInput, match="cut short"):
        opened(path)


def test_a_card_that_is_not_here(tmp_path: Path) -> None:
    shapes = {"context_length": 16}
    with pytest.raises(BadInput, match="an interrupted compile"):
        open_runtime({"qpc": tmp_path}, shapes)
    (tmp_path / "programqpc.bin").write_bytes(b"")
    with pytest.raises(Missing, match="qaicrt"):
        open_runtime({"qpc": tmp_path}, shapes)
