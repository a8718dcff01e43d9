"""Compiles a network into context binaries, one for each chipset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modelc.errors import ToolFailed, Where
from modelc.ir.onnx_file import read_proto
from modelc.process import run_worker
from modelc.targets.snapdragon import binary
from modelc.targets.snapdragon.binary import BinaryInfo
from modelc.targets.snapdragon.chipsets import Chipset
from modelc.targets.snapdragon.compile import check_binary
from modelc.targets.snapdragon.network import places
from modelc.targets.snapdragon.network.ep_context import check_ports
from modelc.targets.snapdragon.network.options import NetworkOptions, prepare
from modelc.targets.snapdragon.network.places import Partition, check_whole
from modelc.targets.snapdragon.network.verdicts import (
    OperatorVerdict,
    read_judged,
    verdicts_of,
)

STEP: Final = "compile"


@dataclass(frozen=True)
class CompiledNetwork:
    """A context binary as it was made.

    Attributes:
        wrapper: the ONNX model beside it by which ONNX Runtime loads it. Inputs and outputs are the
            source's: names, order, types and sizes.
        operators: the file beside it that tells which nodes its operators come from (`op_trace`).
        partition: what HTP runs and what the CPU.
        verdicts: what became of each node, in the graph's order, as `probe_operators` has it.
        seconds: compile time.
    """

    binary: Path
    wrapper: Path
    operators: Path
    info: BinaryInfo
    partition: Partition
    verdicts: tuple[OperatorVerdict, ...]
    seconds: float


def compile_network(
    model: Path,
    name: str,
    chipset: Chipset,
    options: NetworkOptions,
    output: Path,
    *,
    workdir: Path,
    timeout_s: float,
    step: str = STEP,
) -> CompiledNetwork:
    """Compile a static ONNX graph into the binary `output` (`NAME.bin`), all of it for HTP.

    What was there is replaced. The same model file gives the same bytes.

    Args:
        name: what the QNN graph's name begins with.

    Raises:
        BadInput: a damaged model, what the chipset can't do, or an op package that doesn't load.
        ToolFailed: operators are refused, or the compiler failed, crashed or ran out of time.
    """
    # Conversions at the edge can only stay ONNX nodes where nodes may stay on the CPU.
    cpu = options.boundary == "cpu"
    made = _compile(model, name, chipset, options, output, workdir, timeout_s, step, cpu=cpu)
    try:
        check_whole(made.partition, Where(step=step, graph=name))
    except ToolFailed:
        for path in (made.binary, made.wrapper, made.operators):
            path.unlink()
        raise
    return made


def compile_with_fallback(
    model: Path,
    name: str,
    chipset: Chipset,
    options: NetworkOptions,
    output: Path,
    *,
    workdir: Path,
    timeout_s: float,
    step: str = STEP,
) -> CompiledNetwork:
    """Compile as `compile_network` does, but leave what HTP refuses to ONNX Runtime's CPU.

    `partition` says what that is. The wrapper holds these nodes; a device needs ONNX Runtime.

    Raises:
        BadInput, ToolFailed: as `compile_network`; or HTP takes no node at all, or refuses one of
            those that ONNX Runtime turned channels-last for it.
    """
    return _compile(model, name, chipset, options, output, workdir, timeout_s, step, cpu=True)


def compile_for_chipsets(
    model: Path,
    name: str,
    chipsets: Sequence[Chipset],
    options: NetworkOptions,
    folder: Path,
    *,
    workdir: Path,
    timeout_s: float,
    fallback: bool = False,
) -> Mapping[str, CompiledNetwork]:
    """Compile a network for several chipsets: `FOLDER/CHIPSET/NAME.bin` for each.

    Args:
        timeout_s: for each.

    Returns:
        By name of the chipset.
    """
    make = compile_with_fallback if fallback else compile_network
    return {
        chipset.name: make(
            model,
            name,
            chipset,
            options,
            folder / chipset.name / f"{name}.bin",
            workdir=workdir / chipset.name,
            timeout_s=timeout_s,
        )
        for chipset in chipsets
    }


def _compile(
    model: Path,
    name: str,
    chipset: Chipset,
    options: NetworkOptions,
    output: Path,
    workdir: Path,
    timeout_s: float,
    step: str,
    *,
    cpu: bool,
) -> CompiledNetwork:
    output = output.resolve()
    where = Where(step=step, graph=name)
    prepared = prepare(model, name, chipset, options, where)
    proto = read_proto(model)  # before: the wrapper may be written in its place
    reply = run_worker(
        "modelc.targets.snapdragon.network.compile_worker",
        {**prepared.job(model, name), "output": str(output), "cpu": cpu},
        workdir=workdir,
        timeout_s=timeout_s,
        where=where,
        hint="if it ran out of memory or time, compile with less effort or a smaller network",
    )
    judged = read_judged(reply["judged"], [node.name for node in proto.graph.node])
    made = CompiledNetwork(
        binary=output,
        wrapper=output.with_suffix(".onnx"),
        operators=output.with_suffix(".operators.json"),
        info=binary.from_json(reply["info"]),
        partition=places.from_json(reply["partition"]),
        verdicts=verdicts_of(proto, chipset, judged),
        seconds=reply["seconds"],
    )
    where = Where(step=step, path=str(output))
    hint = "this onnxruntime-qnn does not know the chipset's settings"
    check_binary(made.info, chipset, [name] * len(made.partition.htp), where, hint)
    check_ports(model, made.wrapper, where)
    return made
