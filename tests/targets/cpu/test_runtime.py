"""The CPU's runtime on a tiny lowered decoder, against the canonical graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.tiny_source import tiny_config, tiny_source, write_weights
from support.whole_reference import WholeReference

from modelc.decoder.builder import build_decoder
from modelc.decoder.config import DecoderSource, Rope
from modelc.errors import BadInput, Damaged
from modelc.passes.base import run_passes
from modelc.passes.pipelines import build_pipeline
from modelc.targets.cpu import runtime as module
from modelc.targets.cpu.emit import emit_cpu
from modelc.targets.cpu.runtime import open_runtime
from modelc.targets.runtime import Runtime, Sampling

CONTEXT = 24
TOKENS = [3, 17, 39, 0, 5, 5, 21, 8, 30, 11, 2, 36]
GREEDY = Sampling()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bundle")


@pytest.fixture(scope="module")
def source(folder: Path) -> DecoderSource:
    source = tiny_source(tiny_config(head_dim=16, rope=Rope(dim=16)), folder / "weights.bin")
    write_weights(source)
    return source


@pytest.fixture(scope="module")
def runtime(folder: Path, source: DecoderSource) -> Runtime:
    passes = build_pipeline("cpu", {"weights": "float"})
    model, _ = run_passes(build_decoder(source, CONTEXT), passes, graph="test")
    emit_cpu(model, folder)
    settings = {"context_length": CONTEXT, "vocab_size": 40, "threads": 1}
    return open_runtime({"model": folder / "model.onnx"}, settings)


@pytest.fixture
def reference(source: DecoderSource) -> WholeReference:
    return WholeReference(build_decoder(source, CONTEXT))


def greedy(reference: WholeReference, prompt: list[int], count: int) -> list[int]:
    """What the canonical graph would say."""
    found: list[int] = []
    logits = reference.step(np.array([prompt]))[0, -1]
    while len(found) < count:
        found.append(int(logits.argmax()))
        if len(prompt) + len(found) > CONTEXT:
            break
        logits = reference.step(np.array([found[-1:]]))[0, -1]
    return found


@pytest.mark.parametrize("chunk", [256, 5])
def test_logits_are_the_references(
    runtime: Runtime, reference: WholeReference, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    expected = reference.step(np.array([TOKENS]))[0]
    for _ in range(2):  # what is left in the cache doesn't matter
        found = runtime.logits(TOKENS)
        assert found.dtype == np.float32
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("chunk", [256, 5])
def test_greedy_tokens_are_the_references(
    runtime: Runtime, reference: WholeReference, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    seen: list[int] = []
    made = runtime.generate(TOKENS, GREEDY, 8, stop_ids=[], on_token=seen.append)
    assert list(made.token_ids) == seen == greedy(reference, TOKENS, 8)
    assert made.prompt_tokens == len(TOKENS)
    assert made.prefill_seconds > 0 and made.decode_seconds > 0


def test_generation_ends_with_the_context(runtime: Runtime, reference: WholeReference) -> None:
    made = runtime.generate(TOKENS, GREEDY, 100, stop_ids=[])
    # One token more than fits: the last one's own logits are never needed.
    assert len(made.token_ids) == CONTEXT - len(TOKENS) + 1
    assert list(made.token_ids) == greedy(reference, TOKENS, 100)


def test_a_stop_token_ends_it_and_is_not_given(runtime: Runtime) -> None:
    free = runtime.generate(TOKENS, GREEDY, 8, stop_ids=[]).token_ids
    stop = free[5]
    found = runtime.generate(TOKENS, GREEDY, 8, stop_ids=[stop, 39]).token_ids
    assert found == free[: free.index(stop)]


def test_no_tokens_wanted_none_given(runtime: Runtime) -> None:
    assert runtime.generate(TOKENS, GREEDY, 0, stop_ids=[]).token_ids == ()


def test_sampling_follows_its_seed(runtime: Runtime) -> None:
    def draw(seed: int) -> tuple[int, ...]:
        sampling = Sampling(temperature=3.0, seed=seed)
        return runtime.generate(TOKENS, sampling, 10, stop_ids=[]).token_ids

    assert draw(1) == draw(1)
    assert len({draw(seed) for seed in range(4)}) > 1


@pytest.mark.parametrize("count", [0, CONTEXT + 1])
def test_what_does_not_fit_is_refused(runtime: Runtime, count: int) -> None:
    with pytest.raises(BadInput, match=f"{count} tokens don't fit a context of {CONTEXT}"):
        runtime.logits([1] * count)
    with pytest.raises(BadInput, match=f"{count} tokens"):
        runtime.generate([1] * count, GREEDY, 1, stop_ids=[])


def test_findings_compare_decode_with_prefill(runtime: Runtime) -> None:
    logits = runtime.logits(TOKENS)
    (finding,) = runtime.findings(TOKENS, logits)
    assert finding.passed and finding.name == "decode agrees with prefill"
    (finding,) = runtime.findings(TOKENS, np.roll(logits, 1, axis=0))
    assert not finding.passed


def test_damaged_files_are_named(folder: Path, tmp_path: Path, runtime: Runtime) -> None:
    settings = {"context_length": CONTEXT, "vocab_size": 40}
    (tmp_path / "model.onnx").write_bytes((folder / "model.onnx").read_bytes())
    with pytest.raises(Damaged, match=r"model\.onnx"):  # its weights aren't beside it
        open_runtime({"model": tmp_path / "model.onnx"}, settings)
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(Damaged, match=r"model\.onnx"):
        open_runtime({"model": tmp_path / "model.onnx"}, settings)
