"""Worker: runs a compiled network on saved feeds, and profiles it if asked."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from modelc.errors import Damaged, Where
from modelc.ir.arrays import load_sequence, save_sequence
from modelc.process import LogMark, serve
from modelc.targets.snapdragon import binary, qnn_system
from modelc.targets.snapdragon.diagnose import explain
from modelc.targets.snapdragon.network.ep_context import read_network_wrapper
from modelc.targets.snapdragon.network.session import ALLOW_CPU
from modelc.targets.snapdragon.provider import open_session

LOG = Path("run_worker.log")


def handle(job: dict[str, Any]) -> dict[str, Any]:
    """Run `job["wrapper"]` on the feeds in `job["inputs"]`, and save its outputs likewise.

    With `job["profile"]`, the provider's profile goes into that file.
    """
    wrapper = Path(job["wrapper"])
    read = read_network_wrapper(wrapper)
    info = qnn_system.read(wrapper.with_name(read.binary))
    if absent := set(read.graphs) - {graph.name for graph in info.graphs}:
        raise Damaged(
            f"{read.binary} has no graph {min(absent)}",
            where=Where(path=str(wrapper)),
            hint="the wrapper belongs to another binary: compile it again",
        )
    profile = {"profiling_level": "detailed", "profiling_file_path": job["profile"]}
    mark = LogMark(LOG)
    try:
        session = open_session(
            wrapper,
            options=job["settings"] | (profile if job["profile"] else {}),
            entries=ALLOW_CPU if read.on_cpu else {},
        )
    except Exception as error:  # the provider raises many types; all mean the same
        found = explain(mark.text(), error, graph=wrapper.stem, modules={})
        found.where = Where(graph=wrapper.stem, path=str(wrapper))
        raise found from error
    # After a failure ONNX Runtime would go on with the CPU, and fail for another reason.
    session.disable_fallback()
    names = [output.name for output in session.get_outputs()]
    feeds = load_sequence(Path(job["inputs"]))
    start = time.monotonic()
    results = [dict(zip(names, session.run(names, feed), strict=True)) for feed in feeds]
    seconds = time.monotonic() - start
    save_sequence(Path(job["outputs"]), results)
    return {"seconds": seconds, "info": binary.to_json(info)}


if __name__ == "__main__":
    serve(handle)
