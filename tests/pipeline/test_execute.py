import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from modelc.errors import BadInput, Missing, ModelcError, ToolFailed
from modelc.pipeline import events as ev
from modelc.pipeline.execute import execute
from modelc.pipeline.plan import Plan
from modelc.pipeline.step import Step
from modelc.pipeline.store import Store

MakePlan = Callable[..., Plan]
Runs = Callable[[str], int]


def statuses(results: list[ev.StepResult]) -> list[str]:
    return [result.status for result in results]


@pytest.mark.parametrize("isolated", [False, True])
def test_runs_once_then_uses_the_store(
    make_plan: MakePlan, store: Store, source: Path, runs: Runs, isolated: bool
) -> None:
    seen: list[ev.Event] = []
    plan = make_plan(times=2, isolated=isolated)
    first = execute(plan, store, {"source": source}, seen.append)
    assert statuses(first) == ["ran", "ran", "ran"]
    assert (first[2].path / "text").read_text() == "abc|ABCABC"
    assert ev.StepProgress("upper", 0.5, "half") in seen
    assert ev.StepLog("upper", "upper at work") in seen
    assert [event.name for event in seen if isinstance(event, ev.StepStarted)] == [
        "read",
        "upper",
        "join",
    ]
    assert all(result.peak_mb > 1 for result in first)

    again = execute(plan, Store(store.root.parent), {"source": source})
    assert statuses(again) == ["cached"] * 3
    assert [result.path for result in again] == [result.path for result in first]
    assert [runs(name) for name in ("read", "upper", "join")] == [1, 1, 1]
    assert not list((store.root / "staging").iterdir())
    assert not (first[1].path.parent / "scratch").exists()


def test_an_option_reruns_its_step_and_what_reads_it(
    make_plan: MakePlan, store: Store, source: Path
) -> None:
    execute(make_plan(times=1), store, {"source": source})
    changed = execute(make_plan(times=3), store, {"source": source})
    assert statuses(changed) == ["cached", "ran", "ran"]
    assert (changed[2].path / "text").read_text() == "abc|ABCABCABC"


def test_the_source_counts_by_its_bytes_not_its_path(
    make_plan: MakePlan, store: Store, source: Path, tmp_path: Path
) -> None:
    execute(make_plan(), store, {"source": source})
    twin = tmp_path / "elsewhere" / "copy.bin"
    twin.parent.mkdir()
    twin.write_text("abc")
    assert statuses(execute(make_plan(), store, {"source": twin})) == ["cached"] * 3
    source.write_text("abd")
    assert statuses(execute(make_plan(), store, {"source": source})) == ["ran"] * 3


def test_a_folder_as_source(make_plan: MakePlan, store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "hf"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").touch()
    step = Step("only", "toy_steps:slow", reads=("source",), options={"seconds": 0})
    plan = Plan("cpu", (step,))
    assert statuses(execute(plan, store, {"source": folder})) == ["ran"]
    assert statuses(execute(plan, store, {"source": folder})) == ["cached"]
    (folder / "notes.md").write_text("not a part of the model")
    assert statuses(execute(plan, store, {"source": folder})) == ["cached"]
    (folder / "tokenizer.json").write_text("{}")
    assert statuses(execute(plan, store, {"source": folder})) == ["ran"]


def test_a_missing_source_is_bad_input(make_plan: MakePlan, store: Store, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file") as caught:
        execute(make_plan(), store, {"source": tmp_path / "nothing"})
    assert str(tmp_path / "nothing") in str(caught.value)


def test_a_source_that_changes_while_it_is_read_fails(store: Store, source: Path) -> None:
    plan = Plan("cpu", (Step("edit", "toy_steps:edit_source", reads=("source",)),))
    with pytest.raises(ModelcError, match="source changed while it was read") as caught:
        execute(plan, store, {"source": source})
    assert caught.value.where.step == "edit"
    assert not list((store.root / "entries").iterdir())


def test_a_missing_tool_is_missing(store: Store) -> None:
    plan = Plan("cpu", (Step("a", "toy_steps:read", tools=("no-such-package-here",)),))
    with pytest.raises(Missing, match="no-such-package-here"):
        execute(plan, store, {})


@pytest.mark.parametrize("isolated", [False, True])
def test_an_error_names_its_step_and_keeps_its_kind(store: Store, isolated: bool) -> None:
    plan = Plan("cpu", (Step("picky", "toy_steps:refuse", isolated=isolated),))
    with pytest.raises(BadInput) as caught:
        execute(plan, store, {})
    assert caught.value.where.step == "picky"
    assert caught.value.where.graph == "g"
    assert caught.value.hint == "try another"
    assert not list((store.root / "staging").iterdir())


def test_a_crash_in_a_child_is_an_error_with_its_last_words(store: Store) -> None:
    plan = Plan("cpu", (Step("native", "toy_steps:crash", isolated=True),))
    with pytest.raises(ToolFailed, match="SIGSEGV") as caught:
        execute(plan, store, {})
    assert caught.value.where.step == "native"
    assert "about to crash" in caught.value.message


def test_a_bug_in_a_child_is_told_with_its_traceback(store: Store) -> None:
    plan = Plan("cpu", (Step("buggy", "toy_steps:bug", isolated=True),))
    with pytest.raises(ToolFailed, match="KeyError: 'oops'") as caught:
        execute(plan, store, {})
    assert "toy_steps.py" in caught.value.message


def test_a_bug_in_this_process_stays_itself(store: Store) -> None:
    with pytest.raises(KeyError) as caught:
        execute(Plan("cpu", (Step("buggy", "toy_steps:bug"),)), store, {})
    assert caught.value.__notes__ == ["in step buggy"]


def test_peak_memory_is_the_steps_own(store: Store) -> None:
    big = Step("big", "toy_steps:allocate", options={"mb": 200}, isolated=True)
    small = Step("small", "toy_steps:allocate", options={"mb": 1}, isolated=True)
    here = Step("here", "toy_steps:allocate", options={"mb": 100})
    ballast = bytearray(b"x" * (150 << 20))  # this process's, which must not count for a child
    results = {r.name: r for r in execute(Plan("cpu", (big, small, here)), store, {})}
    assert results["big"].peak_mb > 200
    assert results["small"].peak_mb < 150
    assert results["here"].peak_mb > 250
    pids = {(result.path / "pid").read_text() for result in results.values()}
    assert len(pids) == 3
    assert results["here"].path.joinpath("pid").read_text() == str(os.getpid())
    assert len(ballast)


def test_a_damaged_result_is_made_again(make_plan: MakePlan, store: Store, source: Path) -> None:
    first = execute(make_plan(), store, {"source": source})
    victim = first[2].path / "text"
    victim.write_text("XXX|ABC")  # same size
    seen: list[ev.Event] = []
    results = execute(make_plan(), Store(store.root.parent), {"source": source}, seen.append)
    assert statuses(results) == ["cached", "cached", "ran"]
    assert victim.read_text() == "abc|ABC"
    warnings = [event for event in seen if isinstance(event, ev.Warned)]
    assert len(warnings) == 1
    assert warnings[0].name == "join"
    aside = list((store.root / "damaged").iterdir())
    assert (aside[0] / "files" / "text").read_text() == "XXX|ABC"


def test_a_damaged_input_is_found_before_it_is_read(
    make_plan: MakePlan, store: Store, source: Path
) -> None:
    first = execute(make_plan(times=1), store, {"source": source})
    (first[0].path / "text").write_text("zzz")
    fresh = Store(store.root.parent)
    results = execute(make_plan(times=2), fresh, {"source": source})
    assert statuses(results) == ["ran", "ran", "ran"]
    assert (results[2].path / "text").read_text() == "abc|ABCABC"


@pytest.mark.parametrize("damage", ["record", "missing", "truncated", "link"])
def test_every_kind_of_damage_is_found(
    make_plan: MakePlan, store: Store, source: Path, damage: str
) -> None:
    entry = execute(make_plan(), store, {"source": source})[1].path.parent
    text = entry / "files" / "deep" / "er" / "text"
    if damage == "record":
        (entry / "record.json").write_text("{")
    elif damage == "truncated":
        text.write_text("A")
    else:
        text.unlink()
    if damage == "link":
        text.symlink_to(source)
    seen: list[ev.Event] = []
    results = execute(make_plan(), Store(store.root.parent), {"source": source}, seen.append)
    assert statuses(results) == ["cached", "ran", "cached"]
    assert any(isinstance(event, ev.Warned) for event in seen)


def test_no_space_is_an_error_that_says_what_to_do(
    store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import toy_steps

    def full(context: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(toy_steps, "read", full)
    plan = Plan("cpu", (Step("read", "toy_steps:read", reads=("source",)),))
    with pytest.raises(ModelcError, match="no space left") as caught:
        execute(plan, store, {"source": source})
    assert "modelc cache prune" in caught.value.hint
    assert caught.value.where.step == "read"
    assert not list((store.root / "staging").iterdir())
    monkeypatch.undo()


@pytest.mark.parametrize("isolated", [False, True])
def test_a_disk_that_is_really_full(tiny_disk: Path, isolated: bool) -> None:
    store = Store(tiny_disk)
    step = Step("fill", "toy_steps:fill_disk", options={"mb": 8}, isolated=isolated)
    with pytest.raises(ModelcError, match="no space left"):
        execute(Plan("cpu", (step,)), store, {})
    small = Step("fill", "toy_steps:fill_disk", options={"mb": 1}, isolated=isolated)
    assert statuses(execute(Plan("cpu", (small,)), store, {})) == ["ran"]
