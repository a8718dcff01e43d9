import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from modelc.errors import BadInput, ModelcError
from modelc.pipeline.execute import execute
from modelc.pipeline.housekeeping import list_store, prune_store, verify_store
from modelc.pipeline.plan import Plan
from modelc.pipeline.step import Step
from modelc.pipeline.store import Store

MakePlan = Callable[..., Plan]


@pytest.fixture
def filled(make_plan: MakePlan, store: Store, source: Path) -> Store:
    """read (3 bytes, used 300 s ago), upper (3 bytes, 200 s), join (7 bytes, 100 s)."""
    now = time.time()
    results = execute(make_plan(), store, {"source": source})
    for age, result in zip((300, 200, 100), results, strict=True):
        os.utime(result.path.parent / "record.json", (now - age, now - age))
    return store


def steps(store: Store) -> list[str]:
    return [entry.step for entry in list_store(store)]


def test_list_shows_the_last_used_first(filled: Store) -> None:
    assert [(entry.step, entry.size) for entry in list_store(filled)] == [
        ("join", 7),
        ("upper", 3),
        ("read", 3),
    ]


def test_verify_finds_what_sizes_do_not_tell(filled: Store) -> None:
    fresh = Store(filled.root.parent)
    assert verify_store(fresh) == []
    victim = next(entry for entry in list_store(fresh) if entry.step == "join")
    (fresh.folder(victim.key) / "files" / "text").write_text("XXX|ABC")
    damaged = verify_store(Store(filled.root.parent))
    assert [entry.key for entry in damaged] == [victim.key]
    assert "SHA-256" in damaged[0].damage


def test_prune_by_age(filled: Store) -> None:
    pruned = prune_store(filled, older_than_s=250)
    assert (pruned.entries, steps(filled)) == (1, ["join", "upper"])


def test_prune_by_size_keeps_the_last_used(filled: Store) -> None:
    prune_store(filled, max_bytes=10)
    assert steps(filled) == ["join", "upper"]
    prune_store(filled, max_bytes=9)
    assert steps(filled) == ["join"]


def test_prune_all_leaves_no_bytes(filled: Store, make_plan: MakePlan, source: Path) -> None:
    assert prune_store(filled, everything=True).entries == 3
    left = [path for path in filled.root.rglob("*") if path.is_file() and path.stat().st_size]
    assert left == []
    results = execute(make_plan(), filled, {"source": source})
    assert [result.status for result in results] == ["ran"] * 3


def test_prune_without_limits_removes_only_the_damaged(filled: Store) -> None:
    victim = list_store(filled)[0]
    (filled.folder(victim.key) / "record.json").write_text("[]")
    assert prune_store(filled).entries == 1
    assert steps(filled) == ["upper", "read"]


def test_using_an_entry_makes_it_young(filled: Store, make_plan: MakePlan, source: Path) -> None:
    execute(make_plan(), filled, {"source": source})
    assert prune_store(filled, older_than_s=50).entries == 0


def test_prune_does_not_pull_the_floor_from_under_a_compile(filled: Store) -> None:
    with filled.in_use():
        with pytest.raises(ModelcError, match="in use by 1 running compile"):
            prune_store(Store(filled.root.parent), everything=True)
        assert len(steps(filled)) == 3
    assert prune_store(filled, everything=True).entries == 3


def test_prune_removes_what_a_failed_step_left(store: Store, source: Path) -> None:
    plan = Plan("cpu", (Step("parts", "toy_steps:in_parts", options={"fail": True}),))
    with pytest.raises(BadInput, match="before the last"):
        execute(plan, store, {"source": source})
    (left,) = (store.root / "partial").iterdir()
    assert {path.name for path in left.iterdir()} == {"one", "two"}
    assert prune_store(store).size == len("one") + len("two")
    assert not list((store.root / "partial").iterdir())


def test_parts_of_what_is_whole_are_swept(filled: Store) -> None:
    """A kill can come between the commit of a result and the removal of its parts."""
    key = list_store(filled)[0].key
    filled.partial(key).mkdir()
    (filled.partial(key) / "one").write_text("one")
    filled.partial("0" * 64).mkdir()
    with filled.in_use():
        assert [path.name for path in (filled.root / "partial").iterdir()] == ["0" * 64]


def test_a_failed_step_without_parts_leaves_nothing(store: Store, source: Path) -> None:
    with pytest.raises(BadInput):
        execute(Plan("cpu", (Step("no", "toy_steps:refuse"),)), store, {"source": source})
    assert not list((store.root / "partial").iterdir())


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelcError, match="can't be written") as caught:
        Store(tmp_path / "file")
    assert "MODELC_STORE" in caught.value.hint


def test_root_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MODELC_STORE", str(tmp_path / "mine"))
    assert Store().root == tmp_path / "mine" / "v1"
