"""A search on a Snapdragon target, whose activations are rounded as well; and what it makes of a
recipe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from modelc.errors import BadInput
from modelc.pipeline.auto import choose_kinds
from modelc.pipeline.auto_job import AutoJob, auto_job
from modelc.pipeline.make_recipe import make_recipe
from modelc.pipeline.plan_auto import trial_plan
from modelc.pipeline.recipe import Recipe
from modelc.pipeline.settle import settled_recipe
from modelc.pipeline.simulation import simulate
from modelc.pipeline.steps_trial import cut_text
from modelc.pipeline.store import Store
from modelc.quant.budget import Cost, parse_budget
from modelc.quant.overrides import weight_kinds
from modelc.quant.schemes import SCHEMES
from modelc.verify.metrics import kl_divergences, sqnr_db

ON_HTP = {"target": "snapdragon-8-elite", "context_length": "64", "ar": "8,1"}
COST = Cost(1.0, 30.0, 0.001, 1, 1.0)


def make(**options: object) -> Recipe:
    return make_recipe(None, {**ON_HTP, "quant": "auto", **options})


@pytest.fixture(scope="module")
def auto(llama_folder: Path) -> AutoJob:
    return auto_job(llama_folder, make())


def kinds_of(auto: AutoJob, recipe: Recipe) -> dict[str, str]:
    assert recipe.quant is not None
    return weight_kinds(auto.shapes, SCHEMES[recipe.quant], recipe.overrides)


def test_what_is_measured_is_the_recipe_that_comes_out(
    auto: AutoJob, llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelc.pipeline.plan_auto.TOKENS", 256)  # each trial computes them all
    text = tmp_path / "text.txt"
    text.write_text("In the beginning God created the heaven and the earth. " * 20)
    store = Store(tmp_path / "store")
    asked = make(budget="sqnr>=15dB", verify_text=text)
    choice = choose_kinds(llama_folder, asked, store)
    assert choice.chosen.text.sqnr_db >= 15
    assert choice.recipe.quant in SCHEMES
    assert choice.recipe.budget is None
    assert choice.recipe.ar == (8, 1)
    kinds = kinds_of(auto, choice.recipe)
    size = sum(auto.bytes(module, kind) for module, kind in kinds.items())
    assert size == choice.chosen.text.size
    assert len(set(kinds.values())) > 1
    with simulate(llama_folder, choice.recipe, store=store) as simulated:
        tokens = simulated.tokenizer.encode(text.read_text())[:64]
        (wanted,), (found,) = simulated.float_logits([tokens]), simulated.logits([tokens])
    verified = choice.chosen.verified
    assert verified.sqnr_db == pytest.approx(sqnr_db(wanted, found), abs=0.05)
    assert verified.kl_divergence == pytest.approx(kl_divergences(wanted, found).mean(), rel=0.02)


def test_what_is_wrong_with_the_rest_is_told_before_the_search(
    llama_folder: Path, tmp_path: Path
) -> None:
    asked = make(budget="bits<=5").model_copy(update={"ar": (32, 1)})
    store = Store(tmp_path / "store")
    with pytest.raises(BadInput, match="half of a context of 64"):
        choose_kinds(llama_folder, asked, store, events=lambda event: pytest.fail(str(event)))


def test_algorithms_work_on_each_trial_of_a_small_model(llama_folder: Path) -> None:
    auto = auto_job(llama_folder, make(algorithms="rotate"))
    highest = {module: kinds[0] for module, kinds in auto.candidates.items()}
    names = [step.name for step in trial_plan(auto, highest).steps]
    assert {"weights", "calibrate", "encodings", "float_logits", "trial"} <= set(names)


@pytest.mark.parametrize(
    ("budget", "changes", "name", "limit"),
    [
        ("ppl+1%", {"perplexity_ratio": 0.98}, "max_perplexity_ratio", 1.01),
        ("ppl+1%", {"perplexity_ratio": 1.02}, "max_perplexity_ratio", 1.023),
        ("kl<=0.01", {"kl_divergence": 0.004}, "max_kl_divergence", 0.01),
        ("kl<=0.01", {"kl_divergence": 0.02}, "max_kl_divergence", 0.021),
        ("sqnr>=25dB", {"sqnr_db": 30.0}, "min_sqnr_db", 25.0),
        ("sqnr>=25dB", {"sqnr_db": 24.0}, "min_sqnr_db", 23.79),
    ],
)
def test_the_budget_is_the_threshold_unless_few_tokens_exceed_it(
    auto: AutoJob, budget: str, changes: dict[str, float], name: str, limit: float
) -> None:
    kinds = {module: choice[-1] for module, choice in auto.candidates.items()}
    cost = Cost(**{**vars(COST), **changes})
    recipe = settled_recipe(make(budget=budget), auto, kinds, parse_budget(budget), cost)
    assert getattr(recipe.verify, name) == pytest.approx(limit)
    # What the budget doesn't speak of is held as loosely as the loosest of the kinds.
    others = {"min_top1": 0.60, "min_sqnr_db": 8.0, "max_perplexity_ratio": 1.50}
    for other in others.keys() - {name}:
        assert getattr(recipe.verify, other) == others[other]


def test_what_the_user_asked_of_verification_stays(auto: AutoJob) -> None:
    kinds = {module: choice[0] for module, choice in auto.candidates.items()}
    asked = make(budget="kl<=0.01").model_copy(
        update={"verify": make().verify.model_copy(update={"min_top1": 0.99})}
    )
    recipe = settled_recipe(asked, auto, kinds, parse_budget("kl<=0.01"), COST)
    assert recipe.verify.min_top1 == 0.99


def test_the_scheme_is_that_of_most_weights(auto: AutoJob) -> None:
    kinds = {m: "w4_lpbq" if "mlp" in m else "w8" for m in auto.shapes}
    kinds["model.embed_tokens"] = "w16"
    recipe = settled_recipe(make(), auto, kinds, parse_budget("kl<=0.01"), COST)
    assert recipe.quant == "w8a16"  # the table counts for none, the head is w8
    kinds = {**kinds, "lm_head": "w4_lpbq"}
    recipe = settled_recipe(make(), auto, kinds, parse_budget("kl<=0.01"), COST)
    assert recipe.quant == "w4a16_lpbq"
    assert kinds_of(auto, recipe) == kinds
    assert recipe.overrides["layers.*.self_attn.q_proj"] == "w8"


def cuts(count: int, window: int, start: list[int]) -> Iterator[list[int]]:
    return cut_text(list(range(100, 100 + count)), window, start)


def test_every_sequence_begins_as_a_text_does() -> None:
    first, *others = cuts(25, 10, [1])
    assert first == list(range(100, 110))
    assert [len(other) for other in others] == [10, 7]
    assert all(other[0] == 1 for other in others)
    assert np.concatenate([first, *(other[1:] for other in others)]).tolist() == [*range(100, 125)]
    assert [len(cut) for cut in cuts(21, 10, [])] == [10, 10]  # nothing follows the last alone
