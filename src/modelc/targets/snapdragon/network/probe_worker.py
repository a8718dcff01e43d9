"""Worker: asks the provider which nodes of a network HTP takes, without compiling it.

The provider writes the network as a DLC, for which it asks HTP itself about every node; HTP's
compiler, which would take the time, never runs.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from modelc.errors import ModelcError
from modelc.ir.onnx_file import read_proto
from modelc.process import LogMark, serve
from modelc.targets.snapdragon.network.placing import nodes_on_cpu, read_source
from modelc.targets.snapdragon.network.provider_log import read_judgements
from modelc.targets.snapdragon.network.session import (
    ALLOW_CPU,
    RECORD_PLACES,
    open_network,
)
from modelc.targets.snapdragon.network.source_names import dump_options
from modelc.targets.snapdragon.network.verdicts import judge
from modelc.targets.snapdragon.provider import VERBOSE

LOG = Path("probe_worker.log")


def handle(job: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of what was judged (`Judged`) of the nodes of `job["model"]`."""
    log = LOG.resolve()
    mark = LogMark(log)
    model = Path(job["model"])
    nodes = [node.name for node in read_proto(model).graph.node]
    with tempfile.TemporaryDirectory(prefix="probe-", dir=log.parent) as fresh:
        folder = Path(fresh)
        written = {"dump_qnn_ir_dlc": "1", "dump_qnn_ir_dlc_dir": fresh}
        on_cpu: set[str] = set()
        failure: ModelcError | None = None
        try:
            session = open_network(
                job,
                log,
                settings={**written, **dump_options(folder)},
                entries={**ALLOW_CPU, **RECORD_PLACES},
                severity=VERBOSE,
            )
            on_cpu = {node.name for node in nodes_on_cpu(session)}
        except ModelcError as error:
            # Where an operator is refused that was turned channels-last, there is no session.
            failure = error
        judged = read_judgements(mark.text())
        if failure and all(judgement.taken for judgement in judged.values()):
            raise failure
        names = read_source(model, folder).names
    return vars(judge(nodes, judged, on_cpu, names))


if __name__ == "__main__":
    serve(handle)
