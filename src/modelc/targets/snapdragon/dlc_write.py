"""Writes a static graph as a DLC, through ONNX Runtime's QNN provider."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from modelc.errors import BadInput, Where
from modelc.process import run_worker
from modelc.targets.snapdragon.chipsets import Chipset
from modelc.targets.snapdragon.compile import CompileOptions, provider_options
from modelc.targets.snapdragon.dlc import DlcInfo, converter_of, graphs_from_json
from modelc.targets.snapdragon.dlc_container import read_members

_HINT: Final = (
    "the converter may not take how the weights are quantised: int8 and int4 per channel "
    "(`--quant w8a16`, `w4a16`) are the plainest; or leave out `--format dlc`"
)


def write_dlc(
    model: Path,
    name: str,
    chipset: Chipset,
    options: CompileOptions,
    output: Path,
    *,
    workdir: Path,
    timeout_s: float,
    scheme: str = "",
    step: str = "convert",
) -> DlcInfo:
    """Write one static ONNX graph, quantised (QDQ) or float, as the DLC `output`.

    The chipset decides which operators are taken and how they are written; nothing is compiled.
    Weights of 4 bits take a byte each. The same model file gives the same bytes.

    Args:
        model: its external data lies beside it or below.
        name: what the graph's name begins with.
        scheme: how it is quantised, to be named if the converter fails on it.

    Raises:
        BadInput: the chipset can't do what is asked of it, or a DLC can't hold the weights.
        ToolFailed: an operator is refused, or the converter failed, crashed or ran out of time.
    """
    where = Where(step=step, graph=name)
    if options.fp16 and not chipset.fp16:
        raise BadInput(
            f"{chipset.marketing_name} has no fp16",
            where=where,
            hint="choose a quantised scheme, such as w8a16",
        )
    reply = run_worker(
        "modelc.targets.snapdragon.dlc_write_worker",
        {
            "model": str(model.resolve()),
            "name": name,
            "output": str(output.resolve()),
            "options": provider_options(chipset, options),
        },
        workdir=workdir.resolve(),
        timeout_s=timeout_s,
        where=where,
        hint=f"{scheme}: {_HINT}" if scheme else _HINT,
    )
    members = read_members(output)
    return DlcInfo(converter_of(output, members), graphs_from_json(reply["graphs"]), members)
