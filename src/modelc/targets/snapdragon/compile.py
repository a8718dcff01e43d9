"""Compiles static graphs into a context binary for a chipset."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from modelc.errors import BadInput, ToolFailed, Where
from modelc.ir.arrays import Arrays, load_arrays, save_arrays
from modelc.process import run_worker
from modelc.targets.snapdragon import binary
from modelc.targets.snapdragon.binary import BinaryInfo
from modelc.targets.snapdragon.chipsets import Chipset


@dataclass(frozen=True)
class CompileOptions:
    """How graphs are compiled.

    Attributes:
        fp16: the graphs are float and run in half precision.
        finalization: how hard the scheduler works, 1 to 3. 3 gives the smallest spill-fill and
            takes four times as long as 1.
        block_quant_weights: let the compiler pack block-quantised int4 weights by itself: smaller,
            but far less accurate.
    """

    fp16: bool = False
    finalization: int = 3
    block_quant_weights: bool = False


@dataclass(frozen=True)
class Compiled:
    """A context binary as it was made.

    Attributes:
        wrappers: for each graph the ONNX model by which ONNX Runtime loads the binary. A binary of
            one graph runs in the simulator; one with shared weights only on a device.
        seconds: compile time of each graph.
        results: what the graphs that were fed gave, by graph and output.
        run_seconds: what running them took.
    """

    binary: Path
    wrappers: Mapping[str, Path]
    info: BinaryInfo
    seconds: Mapping[str, float]
    results: Mapping[str, Arrays]
    run_seconds: float


def compile_graphs(
    graphs: Mapping[str, Path],
    chipset: Chipset,
    options: CompileOptions,
    output: Path,
    *,
    workdir: Path,
    timeout_s: float,
    step: str = "compile",
    feeds: Mapping[str, Arrays] = MappingProxyType({}),
) -> Compiled:
    """Compile named ONNX graphs into the one binary `output`, sharing their weights.

    For the simulator, compile each graph alone (its twin). Wrappers go beside the binary; what was
    there is replaced.

    Args:
        graphs: ONNX file of each graph, by the name that the QNN graph's name begins with.
        feeds: inputs by graph, on which the compiler runs it once in the simulator: the very
            graphs that ship, although no binary with shared weights can be loaded on x86.

    Raises:
        BadInput: the chipset can't do what is asked of it.
        ToolFailed: an operator is refused, or the compiler failed, crashed or ran out of time.
    """
    if options.fp16 and not chipset.fp16:
        raise BadInput(
            f"{chipset.marketing_name} has no fp16",
            where=Where(step=step),
            hint="choose a quantised scheme, such as w8a16",
        )
    if len(graphs) > 1 and not chipset.weight_sharing:
        raise BadInput(
            f"{chipset.marketing_name} can't share weights between graphs",
            where=Where(step=step),
            hint="compile for one AR length only (`--ar 1`), or each graph into its own binary",
        )
    output, workdir = output.resolve(), workdir.resolve()
    workdir.mkdir(parents=True, exist_ok=True)
    fed = {name: workdir / f"{name}.feed.npz" for name in feeds}
    for name, path in fed.items():
        save_arrays(path, feeds[name])
    reply = run_worker(
        "modelc.targets.snapdragon.compile_worker",
        {
            "graphs": {name: str(model.resolve()) for name, model in graphs.items()},
            "feeds": {name: str(path) for name, path in fed.items()},
            "output": str(output),
            "options": provider_options(chipset, options),
        },
        workdir=workdir,
        timeout_s=timeout_s,
        where=Where(step=step, graph=", ".join(graphs)),
        hint="if it ran out of memory or time, compile into more splits (`--splits`)",
    )
    made = Compiled(
        binary=output,
        wrappers={name: output.with_name(f"{name}.onnx") for name in graphs},
        info=binary.from_json(reply["info"]),
        seconds=reply["seconds"],
        results={name: load_arrays(Path(path)) for name, path in reply["results"].items()},
        run_seconds=reply["run_seconds"],
    )
    where = Where(step=step, path=str(made.binary))
    hint = "this onnxruntime-qnn does not know the chipset's settings"
    check_binary(made.info, chipset, graphs, where, hint)
    return made


def provider_options(chipset: Chipset, options: CompileOptions) -> dict[str, str]:
    """Return the provider's options for a chipset."""
    flags = {
        "enable_htp_fp16_precision": options.fp16,
        "enable_block_quant_weight_optimization": options.block_quant_weights,
    }
    return {
        "soc_model": str(chipset.soc_model),
        "vtcm_mb": str(chipset.compile_vtcm_mb),
        "htp_graph_finalization_optimization_mode": str(options.finalization),
        # Inputs and outputs stay quantised: Genie does that work.
        "offload_graph_io_quantization": "0",
        **{name: "1" for name, wanted in flags.items() if wanted},
    }


def check_binary(
    info: BinaryInfo, chipset: Chipset, graphs: Collection[str], where: Where, hint: str
) -> None:
    """Check what was read back from a binary: compilers take wrong settings in silence.

    Args:
        graphs: names that the names of its QNN graphs begin with.

    Raises:
        ToolFailed: it is not what was asked for.
    """
    wanted = (chipset.soc_model, chipset.htp_arch, {chipset.compile_vtcm_mb}, len(graphs))
    found = (
        info.soc_model,
        info.htp_arch,
        {graph.vtcm_mb for graph in info.graphs},
        len(info.graphs),
    )
    named = all(any(f"{g.name}_".startswith(f"{name}_") for g in info.graphs) for name in graphs)
    if found != wanted or not named:
        raise ToolFailed(
            f"the binary is for {found}, not {wanted} (SoC, arch, VTCM, graphs)",
            where=where,
            hint=hint,
        )
