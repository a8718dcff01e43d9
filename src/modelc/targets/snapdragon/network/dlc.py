"""Writes a network as a DLC."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from modelc.errors import ToolFailed, Where
from modelc.ir.onnx_file import read_proto
from modelc.process import run_worker
from modelc.targets.snapdragon.chipsets import Chipset
from modelc.targets.snapdragon.dlc import DlcGraph, DlcInfo, converter_of, graphs_from_json
from modelc.targets.snapdragon.dlc_container import read_members
from modelc.targets.snapdragon.network.options import NetworkOptions, prepare

STEP: Final = "convert"


def write_network_dlc(
    model: Path,
    name: str,
    chipset: Chipset,
    options: NetworkOptions,
    output: Path,
    *,
    workdir: Path,
    timeout_s: float,
    step: str = STEP,
) -> DlcInfo:
    """Write a static ONNX graph as the DLC `output`, all of it.

    The chipset decides which operators are taken and how they are written; nothing is compiled.
    Inputs and outputs are the source's. The same model file gives the same bytes.

    Args:
        name: what the graph's name begins with.

    Raises:
        BadInput: a damaged model, what the chipset can't do, or an op package that doesn't load.
        ToolFailed: operators are refused, names were lost, or the converter failed, crashed or
            ran out of time.
    """
    where = Where(step=step, graph=name)
    prepared = prepare(model, name, chipset, options, where)
    reply = run_worker(
        "modelc.targets.snapdragon.network.dlc_worker",
        {**prepared.job(model, name), "output": str(output.resolve())},
        workdir=workdir.resolve(),
        timeout_s=timeout_s,
        where=where,
        hint="the converter may not take how the weights are quantised: int8 for each channel "
        "(`--quant w8a8`) is the plainest",
    )
    members = read_members(output)
    graphs = graphs_from_json(reply["graphs"])
    try:
        _check_names(model, graphs[0], where)
    except ToolFailed:
        output.unlink()
        raise
    return DlcInfo(converter_of(output, members), graphs, members)


def _check_names(model: Path, made: DlcGraph, where: Where) -> None:
    """Check that the graph's tensors are named as the source's; inputs that nothing reads are gone.

    Raises:
        ToolFailed: they aren't.
    """
    graph = read_proto(model).graph
    inputs, outputs = ({value.name for value in side} for side in (graph.input, graph.output))
    found = {tensor.name for tensor in made.inputs}, {tensor.name for tensor in made.outputs}
    if not found[0] <= inputs or found[1] != outputs:
        raise ToolFailed(
            f"the converter renamed inputs or outputs: it has {sorted(found[0] | found[1])}",
            where=where,
            hint="keep the conversions of inputs and outputs in the network (boundary 'htp')",
        )
