"""A process of its own that executes steps of all kinds side by side: python run_parts.py STORE
[NAME of a step that hangs]."""

import json
import sys
from pathlib import Path

from modelc.pipeline import tools
from modelc.pipeline.execute import execute
from modelc.pipeline.limits import Limits
from modelc.pipeline.plan import Plan
from modelc.pipeline.step import Step
from modelc.pipeline.store import Store

PARTS = 3


def plan() -> Plan:
    """Each part: a transient result, made in a child, and one made of it by a step that waits."""

    def node(name: str, *inputs: str, isolated: bool = False, waits: bool = False) -> Step:
        options = {"name": name, "memory": 0, "ms": 60}
        return Step(
            name,
            "toy_steps:node",
            options=options,
            inputs=inputs,
            isolated=isolated,
            waits=waits,
            transient=isolated,
        )

    parts = [
        step
        for part in range(PARTS)
        for step in (
            node(f"made{part}", "start", isolated=True),
            node(f"read{part}", f"made{part}", waits=True),
        )
    ]
    ends = tuple(f"read{part}" for part in range(PARTS))
    return Plan("cpu", (node("start"), *parts, node("here", "start"), node("end", *ends)))


def hanging() -> Plan:
    """A child, a worker of a step that waits, and this process itself, all of which hang."""

    def step(name: str, run: str, **rest: object) -> Step:
        options = {"name": name, "mb": 1, "seconds": 600, "until": "never", "flag": f"on.{name}"}
        return Step(name, f"toy_steps:{run}", options=options, **rest)

    return Plan(
        "cpu",
        (
            step("here", "await_flag"),
            step("child", "command", isolated=True),
            step("waits", "command", waits=True),
        ),
    )


def main() -> None:
    # Processes of one test agree on the code, even if someone edits it meanwhile.
    tools.own_version = lambda: "1"
    chosen = hanging() if "hang" in sys.argv[2:] else plan()
    results = execute(chosen, Store(Path(sys.argv[1])), {}, limits=Limits(3, 1 << 30))
    print(json.dumps({r.name: [r.status, r.key, bool(r.entry)] for r in results}))


if __name__ == "__main__":
    main()
