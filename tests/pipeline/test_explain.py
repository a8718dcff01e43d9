import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from modelc.pipeline import fingerprint
from modelc.pipeline.execute import execute
from modelc.pipeline.explain import Reason, explain
from modelc.pipeline.housekeeping import prune_store
from modelc.pipeline.plan import Plan
from modelc.pipeline.store import Store

MakePlan = Callable[..., Plan]


def whys(reasons: list[Reason]) -> list[str]:
    return [reason.why for reason in reasons]


def test_before_and_after_the_first_run(make_plan: MakePlan, store: Store, source: Path) -> None:
    sources = {"source": source}
    assert whys(explain(make_plan(), store, sources)) == ["never ran"] * 3
    results = execute(make_plan(), store, sources)
    reasons = explain(make_plan(), store, sources)
    assert whys(reasons) == ["cached"] * 3
    assert [reason.key for reason in reasons] == [result.key for result in results]


def test_options(make_plan: MakePlan, store: Store, source: Path) -> None:
    execute(make_plan(times=1), store, {"source": source})
    reasons = explain(make_plan(times=2), store, {"source": source})
    assert whys(reasons) == ["cached", "options changed", "input changed"]
    assert reasons[1].details == ("times: 1 -> 2",)
    assert reasons[2].details[0].startswith("upper: ")


def test_compares_with_the_last_use_not_the_last_making(
    make_plan: MakePlan, store: Store, source: Path
) -> None:
    for times in (1, 2, 1):
        execute(make_plan(times=times), store, {"source": source})
    reasons = explain(make_plan(times=3), store, {"source": source})
    assert reasons[1].details == ("times: 1 -> 3",)


def test_source(make_plan: MakePlan, store: Store, source: Path) -> None:
    execute(make_plan(), store, {"source": source})
    source.write_text("other")
    reasons = explain(make_plan(), store, {"source": source})
    assert whys(reasons) == ["source changed", "input changed", "input changed"]
    assert reasons[0].details[0].startswith("source: ")


def test_version_goes_before_all_else_and_nothing_is_left_out(
    make_plan: MakePlan, store: Store, source: Path
) -> None:
    execute(make_plan(times=1), store, {"source": source})
    read, upper, join = make_plan(times=4).steps
    plan = Plan("cpu", (read, dataclasses.replace(upper, version=2), join))
    reason = explain(plan, store, {"source": source})[1]
    assert reason.why == "step version changed"
    assert reason.details == ("version: 1 -> 2", "times: 1 -> 4")


def test_tools(
    make_plan: MakePlan, store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "tool_versions", lambda names: {"modelc": "1"})
    execute(make_plan(), store, {"source": source})
    monkeypatch.setattr(fingerprint, "tool_versions", lambda names: {"modelc": "2"})
    reasons = explain(make_plan(), store, {"source": source})
    assert whys(reasons) == ["tool version changed"] * 3
    assert reasons[0].details == ("modelc: 1 -> 2",)


def test_damage(make_plan: MakePlan, store: Store, source: Path) -> None:
    results = execute(make_plan(), store, {"source": source})
    (results[2].path / "text").unlink()
    reasons = explain(make_plan(), store, {"source": source})
    assert whys(reasons) == ["cached", "cached", "damaged"]
    assert "missing" in reasons[2].details[0]


def test_pruned(make_plan: MakePlan, store: Store, source: Path) -> None:
    execute(make_plan(), store, {"source": source})
    prune_store(store, max_bytes=0)
    assert whys(explain(make_plan(), store, {"source": source})) == ["removed"] * 3


def test_another_target_has_its_own_history(
    make_plan: MakePlan, store: Store, source: Path
) -> None:
    execute(make_plan(times=1), store, {"source": source})
    reasons = explain(make_plan(target="npu", times=2), store, {"source": source})
    assert whys(reasons) == ["cached", "never ran", "never ran"]
