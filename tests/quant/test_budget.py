"""Budgets as people write them, and how much of one a cost takes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelc.errors import BadInput
from modelc.quant.budget import Budget, Cost, parse_budget


@pytest.mark.parametrize(
    ("text", "metric", "limit"),
    [
        ("ppl+1%", "ppl", 1.01),
        (" PPL + 0.5 % ", "ppl", 1.005),
        ("sqnr>=25dB", "sqnr", 25.0),
        ("sqnr>25", "sqnr", 25.0),
        ("kl<=0.01", "kl", 0.01),
        ("kl<=1e-3", "kl", 0.001),
        ("size<=5MB", "size", 5e6),
        ("size<=1.5GiB", "size", 1.5 * 2**30),
        ("bits<=4.5", "bits", 4.5),
    ],
)
def test_what_is_read(text: str, metric: str, limit: float) -> None:
    budget = parse_budget(text)
    assert (budget.metric, budget.limit) == (metric, pytest.approx(limit))


@pytest.mark.parametrize(
    "text",
    [
        "", "1%", "ppl+1", "ppl-1%", "ppl+0%", "ppl<=1%", "sqnr<=25dB", "sqnr>=nan", "kl<=0",
        "kl<=inf", "size<=5", "size<=5TB", "bits>=4", "bits<=" + "9" * 400, "kl<=1e-99999",
    ],
)  # fmt: skip
def test_what_is_no_budget(text: str) -> None:
    with pytest.raises(BadInput) as error:
        parse_budget(text)
    assert "ppl+1%" in error.value.hint


@given(st.text(max_size=20))
def test_any_text_is_a_budget_or_bad_input(text: str) -> None:
    try:
        budget = parse_budget(text)
    except BadInput:
        return
    assert budget.limit > 0
    assert parse_budget(str(budget)) == budget


def cost(**changes: float) -> Cost:
    plain = {"perplexity_ratio": 1.0, "sqnr_db": 40.0, "kl_divergence": 0.0, "size": 8, "bits": 8.0}
    return Cost(**{**plain, **changes})  # type: ignore[arg-type]


def test_how_much_is_used() -> None:
    assert parse_budget("ppl+2%").used(cost(perplexity_ratio=1.01)) == pytest.approx(0.5)
    assert parse_budget("sqnr>=37dB").used(cost(sqnr_db=40.0)) == pytest.approx(0.5, rel=0.01)
    assert parse_budget("sqnr>=43dB").used(cost(sqnr_db=40.0)) == pytest.approx(2.0, rel=0.01)
    assert parse_budget("kl<=0.1").used(cost(kl_divergence=0.2)) == pytest.approx(2.0)
    assert parse_budget("bits<=4").used(cost(bits=8.0)) == 2
    assert parse_budget("size<=1KB").used(cost(size=500)) == 0.5


def test_a_perplexity_that_falls_by_chance_is_not_believed() -> None:
    lucky = cost(perplexity_ratio=0.93, kl_divergence=0.03)
    assert parse_budget("ppl+1%").used(lucky) == pytest.approx((math.exp(0.03) - 1) / 0.01)


@pytest.mark.parametrize("text", ["ppl+1%", "sqnr>=25dB", "kl<=0.01"])
def test_a_model_that_is_lost_exceeds_every_budget(text: str) -> None:
    lost = Cost(math.inf, -math.inf, math.inf, 1, 1.0)
    assert parse_budget(text).used(lost) > 1
    unknown = Cost(math.nan, math.nan, math.nan, 1, 1.0)
    assert parse_budget(text).used(unknown) > 1


def test_sizes_need_no_model() -> None:
    assert [Budget(m, 1, "").is_size for m in ("ppl", "sqnr", "kl", "size", "bits")] == [
        False, False, False, True, True,
    ]  # fmt: skip
