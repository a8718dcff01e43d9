"""Requests that run together, against one after the other and against the float model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from support.cuda_plans import SIZES, TinyPlan, written_plan

from modelc.errors import BadInput
from modelc.targets.cuda.estimate import memory_of
from modelc.targets.cuda.executor import Executor
from modelc.targets.cuda.requests import Batch, Request
from modelc.targets.cuda.seen import Seen
from modelc.targets.cuda.staging import Staging
from modelc.targets.runtime import Sampling
from modelc.targets.sampling import Sampler

PROMPTS = [[3, 1, 4], [1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4], [7], [2, 6, 4, 3, 3]]
GREEDY = Sampling()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyPlan:
    return written_plan(tmp_path_factory.mktemp("plan"))


@pytest.fixture
def executor(tiny: TinyPlan) -> Executor:
    return tiny.executor()


def generate(
    executor: Executor,
    prompts: Sequence[list[int]],
    samplings: Sequence[Sampling],
    count: int = 6,
    stops: Sequence[int] = (),
) -> list[Request]:
    batch = Batch(executor)
    requests = [
        batch.add(prompt, sampling, count, stops)
        for prompt, sampling in zip(prompts, samplings, strict=True)
    ]
    batch.run()
    assert batch._pages.free == executor.memory.pages
    return requests


def sampled(tiny: TinyPlan, prompt: list[int], sampling: Sampling, count: int = 6) -> list[int]:
    """What the sampler of the other targets takes from the float model's logits."""
    return tiny.go_on(prompt, count, Sampler(sampling).choose)


def test_more_requests_than_places_give_what_each_gives_alone(
    tiny: TinyPlan, executor: Executor
) -> None:
    """Prompts of one token, and longer than a chunk of 8, among them."""
    assert len(PROMPTS) > SIZES.max_batch
    together = generate(executor, PROMPTS, [GREEDY] * 4)
    for prompt, request in zip(PROMPTS, together, strict=True):
        assert request.new == generate(executor, [prompt], [GREEDY])[0].new
        assert request.new == tiny.greedy(prompt, 6)


def test_pages_that_run_out_change_no_token(tiny: TinyPlan) -> None:
    """Eight pages of 4 positions: three requests begin in them, and outgrow them."""
    executor, starts = tiny.executor(pages=8), []
    prompts = [[3, 1, 4], [7, 2, 2, 2], [2, 6, 4, 3, 3]]
    samplings = [GREEDY, Sampling(temperature=1.0, seed=3), Sampling(repetition_penalty=1.5)]
    batch = Batch(executor)
    requests = [
        batch.add(prompt, sampling, 12, ())
        for prompt, sampling in zip(prompts, samplings, strict=True)
    ]
    while batch._queue or batch._running:
        batch.step()
        starts.append(len(batch._running))
    assert starts[0] == 3
    assert any(later > before for before, later in pairwise(starts))
    for prompt, sampling, request in zip(prompts, samplings, requests, strict=True):
        assert request.new == sampled(tiny, prompt, sampling, 12)


def test_a_stop_token_ends_only_its_own_request(tiny: TinyPlan, executor: Executor) -> None:
    first, second = (tiny.greedy(prompt, 6) for prompt in PROMPTS[:2])
    stop = next(token for token in first if token not in second)
    told: list[int] = []
    batch = Batch(executor)
    one = batch.add(PROMPTS[0], GREEDY, 6, [stop], told.append)
    other = batch.add(PROMPTS[1], GREEDY, 6, [stop])
    batch.run()
    assert one.new == told == first[: first.index(stop)]
    assert other.new == second


def test_the_context_ends_a_request(tiny: TinyPlan, executor: Executor) -> None:
    prompt = [1, 2, 3] * 10
    (request,) = generate(executor, [prompt], [GREEDY], count=100)
    assert request.new == tiny.greedy(prompt, 3)
    (full,) = generate(executor, [[*prompt, 5, 5]], [GREEDY], count=100)
    assert full.new == tiny.greedy([*prompt, 5, 5], 1)


def test_what_can_never_run_is_refused(tiny: TinyPlan) -> None:
    batch = Batch(tiny.executor(pages=2))
    for prompt, words in (([], "0 tokens"), ([1] * 33, "context of 32"), ([1] * 9, "memory")):
        with pytest.raises(BadInput, match=words):
            batch.add(prompt, GREEDY, 5, ())
    assert batch.add([1], GREEDY, 0, ()).finished


OPTIONS = [
    Sampling(temperature=1.0, seed=1),
    Sampling(temperature=0.8, top_k=5, seed=2),
    Sampling(temperature=1.5, top_p=0.7, seed=3),
    Sampling(repetition_penalty=1.7),
    Sampling(temperature=0.9, top_k=9, top_p=0.9, repetition_penalty=1.3, seed=4),
    GREEDY,
    Sampling(temperature=1e300, top_k=10**12, repetition_penalty=1e-300, seed=5),
]


def test_each_request_has_options_of_its_own(tiny: TinyPlan, executor: Executor) -> None:
    """Seven on three places: rows change hands while some of them are penalised."""
    prompts = [PROMPTS[index % 4] for index in range(len(OPTIONS))]
    requests = generate(executor, prompts, OPTIONS, count=8)
    for prompt, sampling, request in zip(prompts, OPTIONS[:-1], requests[:-1], strict=False):
        assert request.new == sampled(tiny, prompt, sampling, 8), sampling
    assert len(requests[-1].new) == 8


def test_a_step_of_decoding_copies_once_to_the_device(
    executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though tokens are penalised: the one that is new comes with the step."""
    done: list[str] = []
    for owner, name in ((Staging, "upload"), (Seen, "_mark")):
        called = getattr(owner, name)

        def noted(*given: Any, name: str = name, called: Any = called) -> None:
            done.append(name)
            called(*given)

        monkeypatch.setattr(owner, name, noted)
    batch = Batch(executor)
    for prompt in PROMPTS[2:]:
        batch.add(prompt, Sampling(repetition_penalty=1.5), 6, ())
    batch.step()
    assert done == ["upload", "_mark", "_mark"]
    done.clear()
    batch.step()
    batch.step()
    assert done == ["upload", "upload"]


def test_what_is_allocated_is_what_was_estimated(tiny: TinyPlan, executor: Executor) -> None:
    assert executor.memory.nbytes == memory_of(tiny.plan).total
    assert executor.memory.seen.rows.shape == (SIZES.max_batch, tiny.plan.vocabulary)
