"""Worker: compiles a network into a context binary, with or without help of the CPU."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from modelc.errors import ToolFailed, Where
from modelc.process import LogMark, serve
from modelc.targets.snapdragon import binary, qnn_system
from modelc.targets.snapdragon.network import op_trace, places
from modelc.targets.snapdragon.network.ep_context import adopt
from modelc.targets.snapdragon.network.placing import nodes_on_cpu, partition_of, read_source
from modelc.targets.snapdragon.network.provider_log import read_judgements
from modelc.targets.snapdragon.network.session import ALLOW_CPU, RECORD_PLACES, open_network
from modelc.targets.snapdragon.network.source_names import dump_options
from modelc.targets.snapdragon.network.verdicts import judge
from modelc.targets.snapdragon.provider import VERBOSE

LOG = Path("compile_worker.log")


def handle(job: dict[str, Any]) -> dict[str, Any]:
    """Compile `job["model"]` into `job["output"]`, beside which come its wrapper and its operators.

    With `job["cpu"]`, nodes may be left to ONNX Runtime's CPU provider.
    """
    output, log = Path(job["output"]), LOG.resolve()
    mark = LogMark(log)
    output.parent.mkdir(parents=True, exist_ok=True)
    # The compiler refuses to overwrite, so it writes to a fresh directory.
    with tempfile.TemporaryDirectory(prefix="compile-", dir=output.parent) as fresh:
        folder = Path(fresh)
        wrapper = folder / f"{output.stem}.onnx"
        entries = {
            "ep.context_enable": "1",
            "ep.context_embed_mode": "0",
            "ep.context_file_path": str(wrapper),
            **RECORD_PLACES,
            **(ALLOW_CPU if job["cpu"] else {}),
        }
        start = time.monotonic()
        session = open_network(
            job,
            log,
            settings={**op_trace.trace_options(folder), **dump_options(folder)},
            entries=entries,
            dumps=folder,
            severity=VERBOSE,  # so that it says what it thinks of every node
        )
        seconds = time.monotonic() - start
        source = read_source(Path(job["model"]), folder)
        on_cpu = {node.name for node in nodes_on_cpu(session)}
        judged = judge(source.names.source, read_judgements(mark.text()), on_cpu, source.names)
        trace = op_trace.read_trace(folder)
        partition = partition_of(session, source, op_trace.refusals_of(trace))
        binaries = list(folder.glob("*.bin"))
        if len(binaries) != 1:
            raise ToolFailed(
                f"HTP's compiler wrote {len(binaries)} binaries instead of one",
                where=Where(graph=job["name"]),
                hint="" if binaries else "HTP takes no node of it; see `modelc inspect --target`",
            )
        adopt(wrapper, output.name)
        operators = op_trace.operators_of(trace, source.names, source.modules)
        op_trace.write_operators(output.with_suffix(".operators.json"), operators)
        wrapper.replace(output.with_suffix(".onnx"))
        binaries[0].replace(output)
    return {
        "info": binary.to_json(qnn_system.read(output)),
        "partition": places.to_json(partition),
        "judged": vars(judged),
        "seconds": seconds,
    }


if __name__ == "__main__":
    serve(handle)
