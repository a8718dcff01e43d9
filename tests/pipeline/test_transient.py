"""Results that go as soon as their readers have theirs."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from modelc.errors import ModelcError
from modelc.pipeline import events as ev
from modelc.pipeline.execute import execute
from modelc.pipeline.explain import explain
from modelc.pipeline.plan import Plan
from modelc.pipeline.step import Step
from modelc.pipeline.store import Store


def node(name: str, *inputs: str, ms: int = 0, transient: bool = False, fail: bool = False) -> Step:
    run = "toy_steps:refuse" if fail else "toy_steps:node"
    options = {"name": name, "memory": 0, "ms": ms}
    return Step(name, run, options=options, inputs=inputs, transient=transient)


def parts(first: int = 0, second: int = 0, *, fail: bool = False, t1: bool = True) -> Plan:
    """t0 is read by both parts, t1 and t2 by one each."""
    steps = (
        node("t0", transient=True),
        node("t1", "t0", transient=t1),
        node("part1", "t1", ms=first),
        node("t2", "t0", transient=True),
        node("part2", "t2", ms=second, fail=fail),
    )
    return Plan("cpu", steps)


def statuses(results: list[ev.StepResult]) -> dict[str, str]:
    return {result.name: result.status for result in results}


def in_store(store: Store) -> set[str]:
    return {store.find(path.name).record.fingerprint.step for path in entries(store)}


def entries(store: Store) -> list[Path]:
    return list((store.root / "entries").iterdir())


def whys(plan: Plan, store: Store, *, keep: bool = False) -> list[str]:
    return [reason.why for reason in explain(plan, store, {}, keep=keep)]


def test_each_goes_when_its_last_reader_is_done(store: Store) -> None:
    held: dict[str, set[str]] = {}

    def watch(event: ev.Event) -> None:
        if isinstance(event, ev.StepFinished):
            held[event.result.name] = in_store(store)

    results = execute(parts(), store, {}, watch)
    assert held == {
        "t0": {"t0"},
        "t1": {"t0", "t1"},
        "part1": {"t0", "part1"},
        "t2": {"t2", "part1"},
        "part2": {"part1", "part2"},
    }
    assert [bool(result.entry) for result in results] == [False, False, True, False, True]
    with pytest.raises(ValueError, match="t0 is not kept"):
        _ = results[0].path
    assert not list((store.root / "staging").iterdir())


def test_only_what_a_reader_needs_is_made_again(store: Store, runs: Callable[[str], int]) -> None:
    execute(parts(), store, {})
    assert whys(parts(), store) == ["not needed", "not needed", "cached", "not needed", "cached"]
    assert set(statuses(execute(parts(), store, {})).values()) == {"cached", "not needed"}

    changed = parts(first=1)
    reasons = explain(changed, store, {})
    assert [reason.why for reason in reasons] == [
        "needed again", "needed again", "options changed", "not needed", "cached",
    ]  # fmt: skip
    assert [reason.details for reason in reasons[:2]] == [("by t1",), ("by part1",)]
    assert statuses(execute(changed, store, {})) == {
        "t0": "ran", "t1": "ran", "part1": "ran", "t2": "not needed", "part2": "cached",
    }  # fmt: skip
    assert [runs(name) for name in ("t0", "t1", "t2", "part1", "part2")] == [2, 2, 1, 2, 1]


def test_kept_if_asked(store: Store) -> None:
    execute(parts(), store, {})
    assert whys(parts(), store, keep=True) == [
        "needed again", "removed", "cached", "removed", "cached",
    ]  # fmt: skip
    results = execute(parts(), store, {}, keep=True)
    assert all(result.entry for result in results)
    assert in_store(store) == {"t0", "t1", "t2", "part1", "part2"}
    execute(parts(), store, {})
    assert in_store(store) == {"part1", "part2"}


def test_what_is_taken_or_read_by_none_stays(store: Store) -> None:
    steps = (node("a", transient=True), node("b", "a", transient=True))
    execute(Plan("cpu", steps, taken=("a",)), store, {})
    assert in_store(store) == {"a", "b"}


def test_a_failure_keeps_what_is_still_to_be_read(store: Store) -> None:
    with pytest.raises(ModelcError):
        execute(parts(fail=True), store, {})
    assert in_store(store) == {"part1", "t2"}


def test_what_a_kill_left_goes_with_the_next_run(store: Store) -> None:
    kept = parts(t1=False)  # as if killed between t1's last reader and its removal
    execute(kept, store, {})
    assert in_store(store) == {"t1", "part1", "part2"}
    results = execute(parts(), store, {})
    assert statuses(results)["t1"] == "not needed"
    assert in_store(store) == {"part1", "part2"}


def test_a_damaged_one_is_made_again_if_it_is_needed(store: Store) -> None:
    execute(parts(t1=False), store, {})
    key = {reason.step: reason.key for reason in explain(parts(), store, {})}["t1"]
    (store.folder(key) / "files" / "text").write_text("x" * 64)
    fresh = Store(store.root.parent)
    assert statuses(execute(parts(first=1), fresh, {}))["t1"] == "ran"
    assert in_store(store) == {"part1", "part2"}


def test_another_execution_that_needs_it_still_finds_it(store: Store) -> None:
    """Whoever is last to need a result removes it."""
    other = Store(store.root.parent)
    key = {reason.step: reason.key for reason in explain(parts(), store, {})}["t0"]
    with other.in_use():
        other.claim([key])
        execute(parts(), store, {})
        assert in_store(store) == {"t0", "part1", "part2"}
        assert other.find(key, contents=True)
        other.release(key)
        assert in_store(store) == {"part1", "part2"}


def test_a_claim_ends_with_its_use(store: Store) -> None:
    other = Store(store.root.parent)
    key = {reason.step: reason.key for reason in explain(parts(), store, {})}["t0"]
    with other.in_use():
        with other.in_use():
            other.claim([key])
        assert store.usage.users() == 1
    execute(parts(), store, {})
    assert in_store(store) == {"part1", "part2"}
    assert not list((store.root / "active").iterdir())


CLAIM = """
import sys, time
from pathlib import Path
from modelc.pipeline.store import Store
store = Store(Path(sys.argv[1]))
with store.in_use():
    store.claim([sys.argv[2]])
    print("claimed", flush=True)
    time.sleep(600)
"""


def test_a_claim_ends_with_its_process(store: Store) -> None:
    key = {reason.step: reason.key for reason in explain(parts(), store, {})}["t0"]
    argv = [sys.executable, "-c", CLAIM, str(store.root.parent), key]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "claimed\n"
        execute(parts(), store, {})
        assert in_store(store) == {"t0", "part1", "part2"}
        other.kill()
    execute(parts(), store, {})
    assert in_store(store) == {"part1", "part2"}
    assert not list((store.root / "active").iterdir())
