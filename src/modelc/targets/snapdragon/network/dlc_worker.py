"""Worker: writes a network as a DLC."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from modelc.errors import Where
from modelc.process import serve
from modelc.targets.snapdragon import dlc
from modelc.targets.snapdragon.dlc_write_worker import refuse_block_scales, take_dlc
from modelc.targets.snapdragon.network import op_trace, places
from modelc.targets.snapdragon.network.placing import partition_of, read_source
from modelc.targets.snapdragon.network.session import open_whole

LOG = Path("dlc_worker.log")


def handle(job: dict[str, Any]) -> dict[str, Any]:
    """Write `job["model"]` as the DLC `job["output"]`, its graph named after `job["name"]`."""
    model, output = Path(job["model"]), Path(job["output"])
    if "enable_block_quant_weight_optimization" not in job["settings"]:
        refuse_block_scales(model, job["name"])
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="convert-", dir=output.parent) as fresh:
        folder = Path(fresh)
        session = open_whole(
            job, LOG, folder, {"dump_qnn_ir_dlc": "1", "dump_qnn_ir_dlc_dir": fresh}
        )
        reasons = op_trace.refusals_of(op_trace.read_trace(folder))
        partition = partition_of(session, read_source(model, folder), reasons)
        places.check_whole(partition, Where(graph=job["name"]))
        graphs = take_dlc(folder, job["name"], output)
    return {"graphs": dlc.graphs_to_json(graphs)}


if __name__ == "__main__":
    serve(handle)
