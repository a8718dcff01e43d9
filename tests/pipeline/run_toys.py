"""A process of its own that executes one toy step: python run_toys.py STORE SOURCE STEP OPTIONS."""

import json
import os
import sys
from pathlib import Path

from modelc.pipeline import tools
from modelc.pipeline.events import Event, StepWaiting
from modelc.pipeline.execute import execute
from modelc.pipeline.plan import Plan
from modelc.pipeline.step import Step
from modelc.pipeline.store import Store


def main() -> None:
    store, source, name, options = sys.argv[1:5]
    # Processes of one test agree on the code, even if someone edits it meanwhile.
    tools.own_version = lambda: "1"
    isolated = "isolated" in sys.argv[5:]
    steps = (
        Step("read", "toy_steps:read", reads=("source",)),
        Step(
            name,
            f"toy_steps:{name}",
            inputs=("read",),
            options=json.loads(options),
            isolated=isolated,
        ),
    )
    seen: list[str] = []

    def see(event: Event) -> None:
        seen.append(type(event).__name__)
        if isinstance(event, StepWaiting):
            Path(os.environ["TOY_RUNS"], "waiting").touch()

    results = execute(
        Plan("cpu", steps),
        Store(Path(store)),
        {"source": Path(source)},
        see,
    )
    print(json.dumps({"status": [r.status for r in results], "events": seen}))


if __name__ == "__main__":
    main()
