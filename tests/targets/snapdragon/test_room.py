"""The room that a context has; `test_genie` asks Genie itself about some of these."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelc.targets.snapdragon.room import longest_prompt, longest_text


@pytest.mark.parametrize(
    ("ars", "context", "prompt", "text"),
    [
        ((8, 1), 32, 25, 32),
        ((128, 1), 512, 385, 512),
        ((8, 1), 36, 28, 36),
        ((8, 1), 12, 4, 12),
        ((16, 4, 1), 40, 24, 40),
        ((1,), 32, 31, 32),
        ((8,), 32, 24, 25),
    ],
)
def test_measured(ars: tuple[int, ...], context: int, prompt: int, text: int) -> None:
    assert (longest_prompt(ars, context), longest_text(ars, context)) == (prompt, text)


@given(st.sets(st.integers(1, 40), min_size=1), st.integers(1, 100))
def test_calls_of_a_prompt_fit_until_the_longest(ars: set[int], more: int) -> None:
    context = max(ars) + more

    def fits(rest: int) -> bool:
        past = 0
        while rest:
            ar = min((ar for ar in ars if ar >= rest), default=max(ars))
            count = min(ar, rest)
            past, rest = past + count, rest - count
            if past > context - ar:
                return False
        return True

    longest = longest_prompt(ars, context)
    assert [count for count in range(1, context + 1) if fits(count)] == [*range(1, longest + 1)]
    assert longest < longest_text(ars, context)
