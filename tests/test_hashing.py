"""Canonical digests: equal for equal values, different for everything else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelc.hashing import digest, file_digest

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def shape(value: object) -> object:
    """A value with its types spelled out, which Python's == would blur (1 == True == 1.0)."""
    if isinstance(value, list):
        return ("list", [shape(item) for item in value])
    if isinstance(value, dict):
        return ("dict", [(key, shape(value[key])) for key in sorted(value)])
    return (type(value).__name__, repr(value))


@settings(max_examples=200)
@given(plain, plain)
def test_digests_are_equal_exactly_for_equal_values(a: object, b: object) -> None:
    assert (digest(a) == digest(b)) == (shape(a) == shape(b))


def test_order_of_a_mapping_does_not_matter() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


def test_dataclasses_count_by_name_and_fields() -> None:
    @dataclass(frozen=True)
    class Left:
        n: int

    @dataclass(frozen=True)
    class Right:
        n: int

    assert digest(Left(1)) == digest(Left(1))
    assert len({digest(Left(1)), digest(Left(2)), digest(Right(1)), digest({"n": 1})}) == 4


def test_unknown_types_are_refused() -> None:
    with pytest.raises(TypeError, match="no canonical encoding for set"):
        digest({1, 2})


def test_file_digest(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(range(256)) * 100)
    assert file_digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()
