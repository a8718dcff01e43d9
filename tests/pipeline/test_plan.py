import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelc.errors import ModelcError
from modelc.pipeline import fingerprint as fp
from modelc.pipeline.plan import Plan
from modelc.pipeline.step import Step


def key(step: Step, digests: dict[str, str] | None = None) -> str:
    return fp.fingerprints(Plan("cpu", (step,)), lambda name: digests or {})[step.name].key


def test_steps_are_put_in_order_and_otherwise_left_as_given() -> None:
    steps = (
        Step("d", "m:f", inputs=("c", "a")),
        Step("b", "m:f"),
        Step("a", "m:f"),
        Step("c", "m:f", inputs=("b",)),
    )
    assert [step.name for step in Plan("cpu", steps).steps] == ["b", "a", "c", "d"]


def test_all_problems_are_told_at_once() -> None:
    steps = (
        Step("lower", "no-function"),
        Step("lower", "m:f", options={"path": Path("x")}),
        Step("emit", "m:f", inputs=("lowr",)),
        Step("left", "m:f", inputs=("right",)),
        Step("right", "m:f", inputs=("left",), options={"ratio": float("nan")}),
    )
    with pytest.raises(ModelcError) as caught:
        Plan("cpu", steps, taken=("nothing",))
    text = caught.value.message
    assert "2 steps are named lower" in text
    assert "emit reads lowr, which is no step; did you mean lower" in text
    assert "'no-function'" in text
    assert "lower has an option that is no plain value" in text
    assert "right has an option that is no plain value" in text
    assert "circle" in text
    assert "nothing is taken" in text


def test_results_are_the_ends_and_what_is_taken() -> None:
    steps = (Step("a", "m:f"), Step("b", "m:f", inputs=("a",)), Step("c", "m:f", inputs=("b",)))
    assert Plan("cpu", steps).results() == {"c"}
    assert Plan("cpu", steps, taken=("a",)).results() == {"a", "c"}


OPTIONS = st.dictionaries(
    st.text(max_size=4),
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4)
    | st.lists(st.integers(), max_size=3),
    max_size=4,
)


@settings(max_examples=50)
@given(OPTIONS)
def test_key_does_not_depend_on_the_order_of_options(options: dict[str, Any]) -> None:
    backwards = dict(reversed(options.items()))
    assert key(Step("a", "m:f", options=options)) == key(Step("a", "m:f", options=backwards))


@settings(max_examples=50)
@given(OPTIONS, OPTIONS)
def test_different_options_have_different_keys(one: dict[str, Any], other: dict[str, Any]) -> None:
    same = repr(sorted(one.items())) == repr(sorted(other.items()))
    assert (key(Step("a", "m:f", options=one)) == key(Step("a", "m:f", options=other))) == same


STEP = Step(
    "a", "m:f", version=1, options={"n": 1, "names": ("x", "y")}, reads=("source",), tools=("onnx",)
)


def test_key_does_not_depend_on_environment_or_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = key(STEP, {"": "12"})
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        monkeypatch.delenv(name)
    assert key(STEP, {"": "12"}) == before
    assert key(dataclasses.replace(STEP, isolated=True), {"": "12"}) == before
    listed = dataclasses.replace(STEP, options={"names": ["x", "y"], "n": 1})
    assert key(listed, {"": "12"}) == before


@pytest.mark.parametrize(
    "change",
    [
        {"name": "b"},
        {"run": "m:g"},
        {"version": 2},
        {"options": {"n": True, "names": ("x", "y")}},
        {"options": {"n": 1.0, "names": ("x", "y")}},
        {"options": {"n": 1}},
        {"reads": ()},
        {"tools": ("onnx", "numpy")},
    ],
)
def test_key_depends_on(change: dict[str, Any]) -> None:
    digests = {"": "12"}
    assert key(dataclasses.replace(STEP, **change), digests) != key(STEP, digests)


def test_key_depends_on_source_and_tool_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key(STEP, {"": "12"})
    assert key(STEP, {"": "13"}) != before
    assert key(STEP, {"config.json": "12"}) != before
    monkeypatch.setattr(fp, "tool_versions", lambda names: {"onnx": "99"})
    assert key(STEP, {"": "12"}) != before


def test_key_depends_on_inputs_all_the_way_up() -> None:
    def last_key(version: int) -> str:
        steps = (
            Step("a", "m:f", version=version),
            Step("b", "m:f", inputs=("a",)),
            Step("c", "m:f", inputs=("b",)),
        )
        return fp.fingerprints(Plan("cpu", steps), lambda name: {})["c"].key

    assert last_key(1) != last_key(2)
