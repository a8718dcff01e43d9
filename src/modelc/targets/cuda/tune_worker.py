"""Worker: tries tiles of one kernel on the GPU; one that crashes takes this process with it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from modelc.process import serve
from modelc.targets.cuda.choose_engine import choose_engine
from modelc.targets.cuda.plan import load_plan
from modelc.targets.cuda.trials import gpu_timer, try_tiles
from modelc.targets.cuda.variant import Variant


def handle(job: dict[str, Any]) -> dict[str, Any]:
    """Try `job["tiles"]` (documents) of the variant `job["key"]` of `job["plan"]`, in the calls of
    `job["functions"]`, with the cubins in `job["kernels"]`."""
    import torch

    torch.manual_seed(0)
    engine = choose_engine("cuda", Path(job["kernels"]))
    tiles = [Variant.from_document(document) for document in job["tiles"]]
    timer = gpu_timer(engine.device)
    plan = load_plan(Path(job["plan"]))
    trials = try_tiles(engine, plan, job["key"], job["functions"], tiles, timer)
    return {"trials": [asdict(trial) for trial in trials], "gpu": engine.name}


if __name__ == "__main__":
    serve(handle)
