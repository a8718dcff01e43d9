"""Writes a network as C++ source with its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from modelc.errors import ToolFailed, Where
from modelc.process import run_worker
from modelc.targets.snapdragon.chipsets import Chipset
from modelc.targets.snapdragon.network.options import NetworkOptions, prepare
from modelc.targets.snapdragon.network.saver_source import SaverInfo, read_saver

STEP: Final = "convert"


def write_source(
    model: Path,
    name: str,
    chipset: Chipset,
    options: NetworkOptions,
    folder: Path,
    *,
    workdir: Path,
    timeout_s: float,
    step: str = STEP,
) -> SaverInfo:
    """Write a static ONNX graph as C++ source into `folder`: `saver_output.c` and `params.bin`.

    The chipset decides which operators are taken and how they are written; nothing is compiled.
    Inputs and outputs are the source's. The same model file gives the same bytes.

    Args:
        name: what the QNN graph's name begins with.

    Raises:
        BadInput: a damaged model, what the chipset can't do, or an op package that doesn't load.
        ToolFailed: operators are refused, or Saver failed, crashed or ran out of time, or left out
            part of the network.
    """
    where = Where(step=step, graph=name)
    prepared = prepare(model, name, chipset, options, where)
    reply = run_worker(
        "modelc.targets.snapdragon.network.saver_worker",
        {**prepared.job(model, name), "output": str(folder.resolve())},
        workdir=workdir.resolve(),
        timeout_s=timeout_s,
        where=where,
        hint="a DLC (`--format dlc`) holds the same graph",
    )
    info = read_saver(folder)
    built = sum(info.operators.values())
    if len(info.graphs) != 1 or built != reply["operators"]:
        raise ToolFailed(
            f"the source builds {built} operators in {len(info.graphs)} graphs, not "
            f"{reply['operators']} in one",
            where=where,
        )
    return info
