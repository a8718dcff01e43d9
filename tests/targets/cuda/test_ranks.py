"""What the first of several devices tells the others; they run the same, on the same inputs."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import pytest
import torch
from support.cuda_plans import written_plan

from modelc.targets.cuda import ranks
from modelc.targets.cuda.executor import Choice, Piece
from modelc.targets.cuda.ranks import Ranks


def test_followers_run_the_same_function_in_the_same_mode(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = written_plan(tmp_path_factory.mktemp("plan"), layers=1)
    sent: deque[torch.Tensor] = deque()
    first = replace(tiny.executor(), ranks=Ranks(0, 2))
    second = tiny.executor()
    calls = [
        lambda: first.prefill([Piece([3, 1, 4, 1, 5], 0, [0, 1])]).tolist(),
        lambda: first.choose("decode", [Piece([9], 5, [0, 1])], [Choice()]),
        lambda: first.choose("decode", [Piece([2], 6, [0, 1])], [Choice(3.0, draw=0.7)]),
        lambda: first.decode([Piece([6], 7, [0, 1])]).tolist(),
    ]
    for call in calls:
        monkeypatch.setattr(ranks, "_broadcast", lambda tensor: sent.append(tensor.clone()))
        expected = call()
        monkeypatch.setattr(ranks, "_broadcast", lambda tensor: tensor.copy_(sent.popleft()))
        heard = Ranks(1, 2).hear(second.plan, second.memory)
        assert heard is not None
        second.follow(*heard)
        function, sizes, mode = heard
        result = function.result if mode == "logits" else function.chosen
        assert second.memory.tensor(function, result, sizes).tolist() == expected
        assert not sent
    assert list(second.bound) == list(first.bound)
    assert [mode for _, mode in second.bound] == ["logits", "greedy", "sampled", "logits"]
    monkeypatch.setattr(ranks, "_broadcast", lambda tensor: tensor.fill_(-1))
    assert Ranks(1, 2).hear(second.plan, second.memory) is None
