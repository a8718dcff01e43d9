"""Worker: writes a static ONNX graph as a DLC."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any, Final

from modelc.errors import BadInput, ToolFailed, Where
from modelc.process import LogMark, serve
from modelc.targets.snapdragon import dlc, dlc_system
from modelc.targets.snapdragon.compile_worker import modules_of
from modelc.targets.snapdragon.diagnose import explain
from modelc.targets.snapdragon.dlc_container import read_member, read_members
from modelc.targets.snapdragon.provider import open_session

LOG = Path("dlc_write_worker.log")
MAX_METADATA_BYTES: Final = 1 << 20
_TIME = re.compile(rb'(?<="timestamp": ")\d{4}-\d\d-\d\d \d\d:\d\d:\d\d')
_NO_TIME: Final = b"1980-01-01 00:00:00"  # as long as what it replaces


def handle(job: dict[str, Any]) -> dict[str, Any]:
    """Write `job["model"]` as the DLC `job["output"]`, its graph named after `job["name"]`."""
    model, name, output = Path(job["model"]), str(job["name"]), Path(job["output"])
    if "enable_block_quant_weight_optimization" not in job["options"]:
        refuse_block_scales(model, name)
    mark = LogMark(LOG.resolve())
    # The number in the graph's name is made of the path by which the model is opened.
    os.chdir(model.parent)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="convert-", dir=output.parent) as fresh:
        options = {**job["options"], "dump_qnn_ir_dlc": "1", "dump_qnn_ir_dlc_dir": fresh}
        try:
            open_session(Path(model.name), registration=name, options=options)
        except Exception as error:  # the provider raises many types; all mean the same
            raise explain(mark.text(), error, graph=name, modules=modules_of(model)) from error
        return {"graphs": dlc.graphs_to_json(take_dlc(Path(fresh), name, output))}


def take_dlc(folder: Path, name: str, output: Path) -> tuple[dlc.DlcGraph, ...]:
    """Move the one DLC that the provider wrote into `folder` to `output`; return its graphs.

    Raises:
        ToolFailed: there is none or another, or its graph has another name.
    """
    written = list(folder.glob("*.dlc"))
    if len(written) != 1:
        raise ToolFailed(
            f"the provider wrote {len(written)} DLCs instead of one", where=Where(graph=name)
        )
    graphs = dlc_system.read(written[0])
    if len(graphs) != 1 or not graphs[0].name.startswith(f"{name}_"):
        raise ToolFailed(
            f"the DLC holds {[graph.name for graph in graphs]}", where=Where(graph=name)
        )
    _forget_time(written[0])
    written[0].replace(output)
    return graphs


def refuse_block_scales(model: Path, name: str) -> None:
    """Refuse weights with float scales per block: QAIRT 2.51 leaves most of the scales out of the
    DLC, and whoever composes it crashes. Scales that are quantised themselves (LPBQ) are whole.

    Raises:
        BadInput: naming the first such weight.
    """
    import onnx

    graph = onnx.load(str(model), load_external_data=False).graph
    stored = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        blocks = any(a.name == "block_size" and a.i for a in node.attribute)
        if node.op_type == "DequantizeLinear" and blocks and node.input[1] in stored:
            raise BadInput(
                f"the vendor's converter loses the block scales of {node.input[0]}",
                where=Where(graph=name),
                hint="use w4a16_lpbq or w4a16 for DLCs; context binaries take block scales",
            )


def _forget_time(path: Path) -> None:
    """Overwrite the times in the metadata, so that the same model gives the same bytes.

    The container keeps no checksum of its members.
    """
    for member in read_members(path):
        if member.name.startswith("dlc.metadata"):
            text = read_member(path, member, MAX_METADATA_BYTES)
            with path.open("r+b") as file:
                file.seek(member.offset)
                file.write(_TIME.sub(_NO_TIME, text))


if __name__ == "__main__":
    serve(handle)
