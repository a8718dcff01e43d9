"""Buffers that live together never share bytes; those that don't may."""

from hypothesis import given
from hypothesis import strategies as st

from modelc.targets.cuda.memory_plan import Lifetime, place
from modelc.targets.cuda.plan import ALIGNMENT

LIVES = st.builds(
    lambda size, first, span: Lifetime(size, first, first + span),
    st.integers(0, 10_000),
    st.integers(0, 30),
    st.integers(0, 8),
)


@given(st.dictionaries(st.text(min_size=1, max_size=4), LIVES, max_size=25))
def test_what_lives_together_lies_apart(lives: dict[str, Lifetime]) -> None:
    offsets, arena = place(lives)
    assert set(offsets) == set(lives)
    for name, life in lives.items():
        assert offsets[name] % ALIGNMENT == 0
        assert offsets[name] + life.size <= arena
        for other, its in lives.items():
            together = its.first <= life.last and life.first <= its.last
            if other != name and together and life.size and its.size:
                first, second = sorted([(offsets[name], life.size), (offsets[other], its.size)])
                assert first[0] + first[1] <= second[0]


def test_a_chain_needs_no_more_than_two() -> None:
    lives = {str(n): Lifetime(1024, n, n + 1) for n in range(10)}
    assert place(lives)[1] == 2048
