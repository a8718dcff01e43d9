"""Rows of two selections, matched; the counts are worked out by hand."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from modelc.errors import ModelcError
from modelc.verify.network import NetworkThresholds, compare_network
from modelc.verify.selections import TOLERANCE, Selections, open_axes

LIMITS = NetworkThresholds(20.0, 0.99, None, 0.8)
BOXES = np.array([[0, 0, 10, 10], [20, 20, 40, 60], [50, 5, 90, 30.5]], np.float32)


def agreement(wanted: np.ndarray, found: np.ndarray, *axes: int) -> float:
    one = Selections(axes or (0,))
    one.add(wanted, found)
    return one.metrics("y").agreement


def test_order_counts_for_nothing() -> None:
    assert agreement(BOXES, BOXES[::-1]) == 1
    assert agreement(np.arange(5), np.arange(5)[::-1]) == 1
    assert agreement(BOXES.T.copy(), BOXES[::-1].T.copy(), 1) == 1


def test_one_row_more_or_less() -> None:
    """2 |both| / (|one| + |other|)."""
    assert agreement(BOXES, BOXES[:2]) == pytest.approx(4 / 5)
    assert agreement(BOXES[:1], BOXES) == pytest.approx(2 / 4)
    assert agreement(BOXES, BOXES[:0]) == 0 and agreement(BOXES[:0], BOXES[:0]) == 1


def test_a_partner_is_had_once() -> None:
    twice = np.concatenate([BOXES[:1], BOXES[:1]])
    assert agreement(BOXES[:1], twice) == pytest.approx(2 / 3)
    assert agreement(np.array([7]), np.array([7, 7])) == pytest.approx(2 / 3)


def test_floats_may_be_off_by_a_share_of_their_column() -> None:
    near, far = BOXES.copy(), BOXES.copy()
    near[:, 3] += 60 * TOLERANCE * 0.9
    far[:, 3] += 60 * TOLERANCE * 1.1
    assert agreement(BOXES, near) == 1 and agreement(BOXES, far) == 0


def test_whole_numbers_are_the_same_or_not() -> None:
    """Of rows with a class in them, an other class is another row however near."""
    one = np.array([[0.5, 80], [0.25, 3]], np.float32)
    other = np.array([[0.5, 79], [0.25, 3]], np.float32)
    assert agreement(one, other) == pytest.approx(2 / 4)


def test_what_is_not_finite() -> None:
    nan = np.array([[np.nan, 1.5]], np.float32)
    infinite = np.array([[np.inf, 1.5], [-np.inf, 1.5]], np.float32)
    assert agreement(nan, nan) == 0 and agreement(infinite, infinite[::-1]) == 1


def test_the_matching_is_as_large_as_can_be() -> None:
    """Of rows with noise, Hopcroft and Karp's algorithm matches no more."""
    random = np.random.default_rng(0)
    wanted = random.uniform(0, 100, (60, 4)).astype(np.float32)
    found = random.permutation(wanted)[:50] + random.normal(size=(50, 4)).astype(np.float32)
    limit = TOLERANCE * np.abs(wanted).max(axis=0)
    near = (np.abs(wanted[:, None] - found[None]) <= limit).all(axis=2)
    graph = nx.Graph((f"w{i}", f"f{j}") for i, j in np.argwhere(near))
    left = [name for name in graph if name[0] == "w"]
    most = len(nx.bipartite.maximum_matching(graph, left)) // 2
    assert agreement(wanted, found) == pytest.approx(2 * most / 110)
    assert most > 40


def test_several_open_axes_are_one_block() -> None:
    one = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert agreement(one, one, 0, 1) == 1 and agreement(one, one[:, :2], 0, 1) == 0
    assert agreement(one, one + np.array([0, 0, 9], np.float32), 0, 1) == pytest.approx(4 / 6)


def test_in_a_verification() -> None:
    pairs = [({"s": BOXES, "boxes": BOXES}, {"s": BOXES, "boxes": BOXES[:2]})]
    found = compare_network("t", "r", pairs, {"boxes": (0,)}, LIMITS)
    assert found.passed and [c.name for c in found.checks] == [
        "s.sqnr", "s.cosine", "boxes.agreement",
    ]  # fmt: skip
    assert found.checks[-1].detail == "0.800 of 3 rows and 2 here, at least 0.8"
    assert found.document()["outputs"]["boxes"] == {"agreement": 0.8, "wanted": 3, "found": 2}
    strict = NetworkThresholds(20.0, 0.99, None, 0.9)
    assert not compare_network("t", "r", pairs, {"boxes": (0,)}, strict).passed


def test_nothing_selected_is_said() -> None:
    pairs = [({"boxes": BOXES[:0]}, {"boxes": BOXES[:0]})]
    (check,) = compare_network("t", "r", pairs, {"boxes": (0,)}, LIMITS).checks
    assert check.passed and "no sample gives a row" in check.detail


def test_other_sizes_where_they_are_fixed() -> None:
    pairs = [({"boxes": BOXES}, {"boxes": BOXES[:, :3]})]
    with pytest.raises(ModelcError, match=r"boxes \[3, 4\] came out as \[3, 3\]"):
        compare_network("t", "r", pairs, {"boxes": (0,)}, LIMITS)


def test_open_axes() -> None:
    assert open_axes([1, "num", 4]) == (1,) and open_axes([1, 2]) == ()
