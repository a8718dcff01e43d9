"""Worker: compiles static ONNX graphs into context binaries."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from modelc.errors import ToolFailed, Where
from modelc.ir.arrays import load_arrays, save_arrays
from modelc.ir.provenance import MODULE
from modelc.process import LogMark, serve
from modelc.targets.snapdragon import binary, qnn_system
from modelc.targets.snapdragon.diagnose import explain
from modelc.targets.snapdragon.provider import open_session
from modelc.targets.snapdragon.wrapper import retarget

LOG = Path("compile_worker.log")


def handle(job: dict[str, Any]) -> dict[str, Any]:
    """Compile `job["graphs"]` (name -> model) into one binary `job["output"]`.

    Graphs of one binary share their weights. Beside it comes a wrapper for each graph, an ONNX
    model by which ONNX Runtime loads the binary. Graphs with `job["feeds"]` (name -> .npz) are run
    on them, and what they give is saved.
    """
    output = Path(job["output"])
    graphs = {name: Path(model) for name, model in job["graphs"].items()}
    shared = len(graphs) > 1
    options = dict(job["options"])
    entries = {"ep.context_enable": "1", "ep.context_embed_mode": "0"}
    if shared:
        options["enable_htp_weight_sharing"] = "1"
        entries["ep.share_ep_contexts"] = "1"
    output.parent.mkdir(parents=True, exist_ok=True)
    log = LOG.resolve()
    sessions, seconds = {}, {}
    # The compiler refuses to overwrite, so it writes to a fresh directory.
    with tempfile.TemporaryDirectory(prefix="compile-", dir=output.parent) as fresh:
        for index, (name, model) in enumerate(graphs.items()):
            entries["ep.context_file_path"] = str(Path(fresh, f"{name}.onnx"))
            if shared:
                last = index == len(graphs) - 1
                entries["ep.stop_share_ep_contexts"] = str(int(last))
            start, mark = time.monotonic(), LogMark(log)
            # The number in the graph's name is made of the path by which the model is opened.
            os.chdir(model.parent)
            file = Path(model.name)
            try:
                session = open_session(file, registration=name, options=options, entries=entries)
            except Exception as error:  # the provider raises many types; all mean the same
                raise explain(mark.text(), error, graph=name, modules=modules_of(model)) from error
            # The weights are shared only while every session is alive.
            sessions[name] = session
            seconds[name] = time.monotonic() - start
        binaries = list(Path(fresh).glob("*.bin"))
        if len(binaries) != 1:
            raise ToolFailed(
                f"HTP's compiler wrote {len(binaries)} binaries instead of one",
                where=Where(graph=next(iter(graphs))),
            )
        for name in graphs:
            wrapper = Path(fresh, f"{name}.onnx")
            retarget(wrapper, output.name)
            wrapper.replace(output.with_name(wrapper.name))
        binaries[0].replace(output)
    start = time.monotonic()
    results = {name: _run(sessions[name], Path(feed)) for name, feed in job["feeds"].items()}
    return {
        "info": binary.to_json(qnn_system.read(output)),
        "seconds": seconds,
        "results": results,
        "run_seconds": time.monotonic() - start,
    }


def _run(session: Any, feed: Path) -> str:
    """Run a session on a saved feed, and return the file with what it gives."""
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(names, load_arrays(feed)), strict=True))
    path = feed.with_suffix(".results.npz")
    save_arrays(path, outputs)
    return str(path)


def modules_of(model: Path) -> dict[str, str]:
    """Return the module path of each node, by the node's name."""
    import onnx

    graph = onnx.load(str(model), load_external_data=False).graph
    paths = {n.name: {p.key: p.value for p in n.metadata_props}.get(MODULE, "") for n in graph.node}
    return {name: path for name, path in paths.items() if path}


if __name__ == "__main__":
    serve(handle)
