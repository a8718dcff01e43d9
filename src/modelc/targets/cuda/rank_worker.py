"""One further device: loads its share of the model, and runs what the first one tells."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from modelc.process import end_with_parent
from modelc.targets.cuda.loading import load_executor
from modelc.targets.cuda.ranks import Ranks, meet


def main(plan_file: str, rank: str, count: str, engine: str, kernels: str) -> None:
    """Follow until the first device ends."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    meet(int(rank), int(count), engine)
    ranks = Ranks(int(rank), int(count))
    executor = load_executor(Path(plan_file), engine, Path(kernels) if kernels else None, ranks)
    while (call := ranks.hear(executor.plan, executor.memory)) is not None:
        executor.follow(*call)


if __name__ == "__main__":
    main(*sys.argv[1:])
