"""What users import: compile, and bundles whose logits, text and perplexity are transformers'."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import random_models

import modelc
from modelc.errors import BadInput, BelowThreshold
from modelc.pipeline.store import Store
from modelc.targets.runtime import Sampling

CONTEXT = 48
TEXT = "".join(random_models.SENTENCES)


@pytest.fixture(scope="module")
def bundle(
    llama_folder: Path, shared_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[modelc.Bundle]:
    """The random llama in float32, with a short context."""
    made = modelc.compile(
        llama_folder,
        target="cpu",
        quant="fp32",
        context_length=CONTEXT,
        output=tmp_path_factory.mktemp("api") / "llama",
        store=Store(shared_store),
    )
    with made:
        yield made


@pytest.fixture(scope="module")
def token_ids() -> list[int]:
    ids: list[int] = random_models.tokenizer().encode(TEXT)
    return ids


@pytest.fixture(scope="module")
def reference() -> Any:
    return random_models.model("llama")


def logits_of(model: Any, token_ids: Sequence[int]) -> np.ndarray:
    import torch

    with torch.no_grad():
        found: np.ndarray = model(torch.tensor([list(token_ids)])).logits[0].numpy()
    return found


def test_compile_returns_an_open_bundle(bundle: modelc.Bundle) -> None:
    assert bundle.report is not None and bundle.report.bundle == bundle.path
    assert bundle.manifest.target == "cpu" and bundle.context_length == CONTEXT
    assert {step.name for step in bundle.report.steps} >= {"import", "canonical", "verify"}
    with modelc.Bundle.open(bundle.path) as again:
        assert again.manifest == bundle.manifest
        assert again.report is None


@pytest.mark.parametrize("count", [1, 7, CONTEXT])
def test_logits_are_those_of_transformers(
    count: int, bundle: modelc.Bundle, reference: Any, token_ids: list[int]
) -> None:
    found = bundle.logits(token_ids[:count])
    expected = logits_of(reference, token_ids[:count])
    assert found.dtype == np.float32 and found.shape == (count, random_models.VOCAB)
    assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("wrong", "word"),
    [([], "no tokens"), ([0] * (CONTEXT + 1), "context"), ([random_models.VOCAB], "0..383"),
     ([-1], "0..383")],
)  # fmt: skip
def test_logits_of_what_is_no_text(wrong: list[int], word: str, bundle: modelc.Bundle) -> None:
    with pytest.raises(BadInput, match=word):
        bundle.logits(wrong)


def greedy(model: Any, prompt: str, count: int) -> list[int]:
    import torch

    ids = torch.tensor([random_models.tokenizer().encode(prompt)])
    made = model.generate(ids, do_sample=False, max_new_tokens=count, pad_token_id=2)
    return [
        token for token in made[0, ids.shape[1] :].tolist() if token != model.config.eos_token_id
    ]


def test_greedy_text_is_that_of_transformers(bundle: modelc.Bundle, reference: Any) -> None:
    pieces: list[str] = []
    found = bundle.generate("In the beginning", 20, on_text=pieces.append)
    expected = greedy(reference, "In the beginning", 20)
    assert list(found.token_ids) == expected
    assert found.text == random_models.tokenizer().decode(expected) == "".join(pieces)
    assert found.prompt_tokens == len(random_models.tokenizer().encode("In the beginning"))


def test_a_chat_goes_through_the_template(bundle: modelc.Bundle, reference: Any) -> None:
    messages = [{"role": "user", "content": "hello"}]
    expected = random_models.tokenizer().apply_chat_template(messages, tokenize=True)
    ids = expected if isinstance(expected, list) else expected["input_ids"]
    assert bundle.tokenizer.encode_chat(messages) == ids
    told = bundle.generate(messages, 8)
    assert told.prompt_tokens == len(ids)
    assert told.token_ids == bundle.generate("hello", 8, chat=True).token_ids


def test_generation_ends_at_its_limits(bundle: modelc.Bundle, token_ids: list[int]) -> None:
    assert len(bundle.generate("In", 3).token_ids) <= 3
    runtime, prompt = bundle.runtime, token_ids[: CONTEXT - 4]
    free = runtime.generate(prompt, Sampling(), 100, ()).token_ids
    assert len(free) == 5  # the last one needs no place in the context
    stopped = runtime.generate(prompt, Sampling(), 100, (free[2],)).token_ids
    assert stopped == free[: free.index(free[2])]
    with pytest.raises(BadInput, match="context"):
        bundle.generate(TEXT)


def test_a_seed_repeats_itself(bundle: modelc.Bundle) -> None:
    def sample(seed: int) -> tuple[int, ...]:
        sampling = Sampling(temperature=1.5, top_k=50, seed=seed)
        return bundle.generate("In the", 16, sampling=sampling).token_ids

    assert sample(1) == sample(1)
    assert len({sample(seed) for seed in range(4)}) > 1


def test_perplexity_is_that_of_transformers(
    bundle: modelc.Bundle, reference: Any, token_ids: list[int], tmp_path: Path
) -> None:
    import torch

    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    found = bundle.evaluate(text)

    # Hugging Face, "Perplexity of fixed-length models", each token weighted alike.
    total, scored, end = 0.0, 0, 0
    for begin in range(0, len(token_ids), CONTEXT // 2):
        stop = min(begin + CONTEXT, len(token_ids))
        ids = torch.tensor([token_ids[begin:stop]])
        labels = ids.clone()
        labels[:, : -(stop - end)] = -100
        count = int((labels[:, 1:] != -100).sum())
        with torch.no_grad():
            total += float(reference(ids, labels=labels).loss) * count
        scored, end = scored + count, stop
        if stop == len(token_ids):
            break
    assert found.tokens == scored == len(token_ids) - 1
    assert found.perplexity == pytest.approx(math.exp(total / scored), rel=1e-3)
    assert bundle.evaluate(text, max_tokens=10).tokens == 9


def test_verify_repeats_the_verdict(bundle: modelc.Bundle) -> None:
    verification = bundle.verify()
    assert verification.passed and verification.runtime == "onnxruntime"
    assert verification.metrics.sqnr_db == pytest.approx(
        bundle.manifest.metrics["sqnr_db"], abs=0.1
    )
    assert verification.metrics.tokens == CONTEXT


def test_explain_and_estimate(
    llama_folder: Path, shared_store: Path, bundle: modelc.Bundle
) -> None:
    options = {"target": "cpu", "quant": "fp32", "context_length": CONTEXT}
    reasons = modelc.explain(llama_folder, store=Store(shared_store), **options)
    assert {reason.why for reason in reasons} == {"cached"}
    assert modelc.estimate(llama_folder, **options).context_length == CONTEXT


def test_below_the_threshold(llama_folder: Path, shared_store: Path, tmp_path: Path) -> None:
    with pytest.raises(BelowThreshold, match="at least 0"):
        modelc.compile(
            llama_folder,
            target="cpu",
            quant="q4_0",
            verify_min_top1=0.999,
            output=tmp_path / "bundle",
            store=Store(shared_store),
        )
    assert not (tmp_path / "bundle").exists()


def test_a_bundle_opens_without_a_store(
    bundle: modelc.Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MODELC_STORE", str(tmp_path / "file"))
    with modelc.Bundle.open(bundle.path) as opened:
        assert opened.logits([0, 5]).shape == (2, random_models.VOCAB)
