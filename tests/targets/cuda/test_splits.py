"""How many splits decoding is compiled for."""

from modelc.targets.cuda.splits import splits_for


def test_splits_fill_a_card_but_are_not_too_short() -> None:
    assert splits_for(1, 8, 131072, 132) == 33  # two programs for each of 132
    assert splits_for(1, 8, 2048, 132) == 8  # 256 positions each
    assert splits_for(1, 1, 131072, 132) == 128
    assert splits_for(64, 8, 131072, 132) == 1  # sequences fill it
    assert splits_for(1, 8, 100, 132) == 1
