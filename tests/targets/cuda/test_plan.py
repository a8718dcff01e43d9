"""Launch plans in files: what was saved is read again, and damage is told."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support.cuda_plans import TinyPlan, written_plan

from modelc.errors import Damaged
from modelc.targets.cuda.plan import PLAN, load_plan


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyPlan:
    return written_plan(tmp_path_factory.mktemp("plan"), layers=1)


def test_tokens_are_chosen_behind_the_logits(tiny: TinyPlan) -> None:
    for function in tiny.plan.functions:
        kernels = [[call.kernel.split("-")[0] for call in function.calls_for(mode)] for mode in
                   ("greedy", "sampled")]  # fmt: skip
        assert kernels[0][-2:] == ["sample_peak", "sample"]
        assert kernels[1][-4:] == ["sample_peak", "sample_bins", "sample_groups", "sample"]
        spans = {
            name: (buffer.offset, buffer.offset + buffer.size(function.most))
            for name, buffer in function.buffers.items()
            if name.startswith("sampling.") or name == function.result
        }
        assert len(spans) == 8
        ordered = sorted(spans.values())
        assert all(a[1] <= b[0] for a, b in pairwise(ordered))


def _function(document: Any) -> Any:
    return document["functions"][0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(format=1), "of format 1"),
        (lambda d: _function(d).update(chosen="absent"), "no result absent"),
        (lambda d: _function(d).update(chosen=_function(d)["result"]), "no result"),
        (lambda d: _function(d)["most"].pop("rows"), "symbols"),
        (lambda d: _function(d)["most"].update(rows=0), "sizes"),
        (lambda d: _function(d)["sampled"][0]["tensors"].update(seen="absent"), "reads absent"),
        (lambda d: _function(d)["greedy"][0].update(kernel="absent"), "launches absent"),
        (lambda d: _function(d)["greedy"][0].update(counts="heads"), "no launch plan"),
        (lambda d: _function(d)["buffers"]["logits"].update(offset=1), "place of logits"),
        (lambda d: _function(d)["buffers"]["logits"].update(type="bits"), "no launch plan"),
        (lambda d: _function(d)["buffers"]["logits"].update(offset=1 << 40), "out of the arena"),
        (lambda d: _function(d)["buffers"]["logits"]["dims"][0].update(per=0), "sides of logits"),
        (lambda d: _function(d)["buffers"]["logits"]["dims"][0].update(symbol="x"), "no launch"),
    ],
)
def test_damage_is_told(tiny: TinyPlan, tmp_path: Path, change: Any, words: str) -> None:
    document = json.loads((tiny.folder / PLAN).read_text())
    change(document)
    (tmp_path / PLAN).write_text(json.dumps(document))
    with pytest.raises(Damaged, match=words):
        load_plan(tmp_path / PLAN)
