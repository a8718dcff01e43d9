"""Steps that run at the same time: what they may take, and how they fail."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelc.errors import BadInput
from modelc.pipeline import events as ev
from modelc.pipeline.execute import execute
from modelc.pipeline.limits import Limits
from modelc.pipeline.plan import Plan
from modelc.pipeline.step import Step
from modelc.pipeline.store import Store

GB = 1 << 30


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Up to nine steps that read any of those before them."""
    steps: list[Step] = []
    for index in range(draw(st.integers(1, 9))):
        name, memory = f"s{index}", draw(st.integers(0, 8))
        known = [step.name for step in steps]
        chosen = st.lists(st.sampled_from(known), unique=True, max_size=3) if known else st.just([])
        steps.append(
            Step(
                name,
                "toy_steps:node",
                options={"name": name, "memory": memory, "ms": draw(st.integers(0, 6))},
                inputs=tuple(draw(chosen)),
                waits=draw(st.booleans()),
                memory=memory,
                transient=draw(st.booleans()),
            )
        )
    return Plan("cpu", tuple(steps))


def texts(results: list[ev.StepResult]) -> dict[str, str]:
    return {r.name: (r.path / "text").read_text() for r in results if r.entry}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=plans(), jobs=st.integers(1, 4), limit=st.integers(1, 16))
def test_in_any_order_the_same_results_within_the_limits(
    monkeypatch: pytest.MonkeyPatch, plan: Plan, jobs: int, limit: int
) -> None:
    import toy_steps

    watch = toy_steps.WATCH = toy_steps.Watch()
    names = [step.name for step in plan.steps]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for runs in ("one", "several", "again"):
            (root / runs).mkdir()
        monkeypatch.setenv("TOY_RUNS", str(root / "one"))
        one = execute(plan, Store(root / "a"), {}, limits=Limits(1, GB), keep=True)
        assert watch.most == 1

        monkeypatch.setenv("TOY_RUNS", str(root / "several"))
        several = execute(plan, Store(root / "b"), {}, limits=Limits(jobs, limit))
        assert [result.name for result in several] == names
        assert [result.key for result in several] == [result.key for result in one]
        assert {r.name for r in several if not r.entry} == set(plan.transient())
        assert texts(several).items() <= texts(one).items()
        assert {
            path.name: path.read_text() for path in (root / "several").iterdir()
        } == dict.fromkeys(names, "x")
        assert watch.most <= jobs
        assert watch.heaviest_together <= limit

        monkeypatch.setenv("TOY_RUNS", str(root / "again"))
        again = execute(plan, Store(root / "b"), {}, limits=Limits(jobs, limit))
        assert not list((root / "again").iterdir())
        assert {r.name for r in again if r.status == "not needed"} == set(plan.transient())
        assert {r.status for r in again} <= {"cached", "not needed"}


def waiting(name: str, *, isolated: bool = False, **options: object) -> Step:
    return Step(
        name,
        "toy_steps:await_flag",
        options={"name": name, **options},
        isolated=isolated,
        waits=not isolated,
    )


def telling(kind: type, flag: Path, seen: list[ev.Event]) -> ev.Events:
    """Keep what is told, and raise a flag at the first of a kind."""

    def watch(event: ev.Event) -> None:
        seen.append(event)
        if isinstance(event, kind):
            flag.touch()

    return watch


def test_steps_of_all_kinds_run_beside_each_other(store: Store) -> None:
    """Each waits for the next one to have begun, so none would end alone."""
    here = Step("here", "toy_steps:await_flag", options={"name": "here", "flag": "a", "until": "b"})
    child = waiting("child", isolated=True, flag="b", until="c")
    waits = waiting("waits", flag="c", until="a")
    results = execute(Plan("cpu", (here, child, waits)), store, {}, limits=Limits(3, GB))
    assert [result.status for result in results] == ["ran"] * 3


def test_a_step_that_needs_more_than_the_limit_runs_alone(
    store: Store, runs: Callable[[str], int]
) -> None:
    import toy_steps

    watch = toy_steps.WATCH = toy_steps.Watch()
    steps = [
        Step(
            name,
            "toy_steps:node",
            options={"name": name, "memory": memory, "ms": 20},
            waits=True,
            memory=memory,
        )
        for name, memory in (("big", 100), ("a", 4), ("b", 5), ("none", 0))
    ]
    execute(Plan("cpu", tuple(steps)), store, {}, limits=Limits(4, 10))
    assert 0 < watch.heaviest_together <= 10
    assert [runs(step.name) for step in steps] == [1] * 4


def test_a_failure_starts_nothing_more_and_keeps_what_runs(
    store: Store, toys: Path, runs: Callable[[str], int]
) -> None:
    seen: list[ev.Event] = []
    steps = (
        waiting("fails", until="started", fail=True),
        waiting("long", isolated=True, flag="started", until="told"),
        waiting("later"),
    )
    watch = telling(ev.StepFailed, toys / "told", seen)
    with pytest.raises(BadInput, match="fails"):
        execute(Plan("cpu", steps), store, {}, watch, limits=Limits(2, GB))
    assert (runs("long"), runs("later")) == (1, 0)
    finished = [event.result.name for event in seen if isinstance(event, ev.StepFinished)]
    assert finished == ["long"]
    assert len(list((store.root / "entries").iterdir())) == 1
    assert not list((store.root / "staging").iterdir())


def test_of_two_failures_the_first_of_the_plan_is_raised(store: Store, toys: Path) -> None:
    seen: list[ev.Event] = []
    steps = (
        waiting("first", flag="a", until="told", fail=True),
        waiting("second", until="a", fail=True),
    )
    watch = telling(ev.StepFailed, toys / "told", seen)
    with pytest.raises(BadInput, match="first"):
        execute(Plan("cpu", steps), store, {}, watch, limits=Limits(2, GB))
    failed = [event for event in seen if isinstance(event, ev.StepFailed)]
    assert [(event.name, event.running) for event in failed] == [("second", ("first",))]


def test_after_a_failure_nobody_waits_for_other_processes(store: Store, toys: Path) -> None:
    steps = (waiting("held"), waiting("fails", until="waiting", fail=True))
    key = execute(Plan("cpu", steps[:1]), Store(store.root.parent / "other"), {})[0].key
    watch = telling(ev.StepWaiting, toys / "waiting", [])
    with store.lock(key), pytest.raises(BadInput, match="fails"):
        execute(Plan("cpu", steps), store, {}, watch, limits=Limits(2, GB))


def test_peaks_are_each_steps_own(store: Store) -> None:
    options = {"name": "big", "mb": 300, "seconds": 0.5}
    big = Step("big", "toy_steps:command", options=options, waits=True)
    small = Step(
        "small", "toy_steps:command", options={**options, "name": "small", "mb": 1}, waits=True
    )
    here = Step("here", "toy_steps:await_flag", options={"name": "here", "until": "pid.big"})
    plan = Plan("cpu", (big, small, here))
    results = {r.name: r.peak_mb for r in execute(plan, store, {}, limits=Limits(3, GB))}
    assert results["big"] > 300
    assert 0 < results["here"] < results["small"] < results["big"] - 250


def test_limits_are_checked() -> None:
    assert Limits().jobs >= 1
    assert Limits().memory_bytes > 1 << 20
    for wrong in ({"jobs": 0}, {"memory_bytes": 0}):
        with pytest.raises(BadInput):
            Limits(**wrong)
