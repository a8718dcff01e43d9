"""Sampling against transformers' logits processors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from modelc.targets.runtime import Sampling
from modelc.targets.sampling import Sampler

VOCAB = 50


def expected_distribution(logits: np.ndarray, history: list[int], options: Sampling) -> np.ndarray:
    ids, scores = torch.tensor([history]), torch.from_numpy(logits)[None].double()
    scores = RepetitionPenaltyLogitsProcessor(options.repetition_penalty)(ids, scores)
    scores = TemperatureLogitsWarper(options.temperature)(ids, scores)
    if options.top_k:
        scores = TopKLogitsWarper(options.top_k)(ids, scores)
    if options.top_p < 1:
        scores = TopPLogitsWarper(options.top_p)(ids, scores)
    return scores.softmax(-1)[0].numpy()


@pytest.mark.parametrize(
    "options",
    [
        Sampling(temperature=1.0, top_k=5),
        Sampling(temperature=0.7, top_p=0.8),
        Sampling(temperature=1.3, top_k=12, top_p=0.9, repetition_penalty=1.4),
    ],
)
def test_draws_follow_transformers_distribution(options: Sampling) -> None:
    rng = np.random.default_rng(4)
    logits = rng.normal(0, 2, VOCAB).astype(np.float32)
    history = [3, 7, 7, 11]
    expected = expected_distribution(logits, history, options)
    sampler = Sampler(options)
    draws = np.bincount([sampler.choose(logits, history) for _ in range(4000)], minlength=VOCAB)
    assert set(np.flatnonzero(draws)) <= set(np.flatnonzero(expected))
    assert np.abs(draws / 4000 - expected).max() < 0.04


def test_greedy_and_penalty() -> None:
    logits = np.array([1.0, 2.0, 1.9], np.float32)
    assert Sampler(Sampling()).choose(logits) == 1
    assert Sampler(Sampling(repetition_penalty=1.5)).choose(logits, [1]) == 2


def test_a_seed_repeats_itself() -> None:
    logits = np.random.default_rng(5).normal(size=VOCAB).astype(np.float32)

    def draw(seed: int) -> list[int]:
        sampler = Sampler(Sampling(temperature=1.0, seed=seed))
        return [sampler.choose(logits) for _ in range(20)]

    assert draw(1) == draw(1) != draw(2)


def test_top_k_of_one_is_greedy() -> None:
    logits = np.random.default_rng(6).normal(size=VOCAB).astype(np.float32)
    assert Sampler(Sampling(temperature=2.0, top_k=1)).choose(logits) == int(logits.argmax())
