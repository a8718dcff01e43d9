"""The QNN tools' way to a binary for the card: convert the ONNX, then generate the context binary.

All side files lie in the binary's own folder, so that another compile doesn't overwrite them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from modelc.errors import BadInput
from modelc.targets.qaic import custom_io, partition, qnn_io
from modelc.targets.qaic.generations import GENERATIONS
from modelc.targets.qaic.options import QpcOptions, read_options
from modelc.targets.qaic.plan_check import check_decoder
from modelc.targets.qaic.qnn_config import (
    BACKEND_KEY,
    CONVERTER_KEY,
    GENERATOR_KEY,
    SKIP_KEY,
    check_config,
    words,
)
from modelc.targets.qaic.source import read_source
from modelc.targets.qaic.specializations import (
    FILE,
    Specialization,
    decoder_specializations,
    documents,
    json_text,
)

TARGET: Final = "x86_64-linux-clang"
CONVERTER_CONFIG: Final = "custom_io_config.yaml"
BACKEND_CONFIG: Final = "qnn_compile_backend.json"
COMPILER_CONFIG: Final = "qnn_compiler_config.json"
DATA_FORMAT: Final = "qnn_data_format_config.json"
PARTITION: Final = "tensor_slicing.json"

_GENERATION: Final = GENERATIONS[-1]
_PASSED: Final = frozenset({"aic_enable_depth_first", "allow_mxint8_mdp_io", "mos"})


@dataclass(frozen=True)
class QnnPlan:
    """How to compile one binary with the QNN tools; nothing has been written or run.

    Attributes:
        argv: the commands, one after the other.
        files: what must lie in `qpc_dir` before, name to text.
        binary_dir: where `programqpc.bin` will be.
    """

    argv: list[list[str]]
    files: dict[str, str]
    qpc_dir: str
    binary_dir: str


def plan_qnn(
    source: str | os.PathLike[str],
    *,
    qpc_dir: str | os.PathLike[str],
    sdk_root: str | os.PathLike[str],
    qnn_config: Mapping[str, Any] | None = None,
    **options: Any,
) -> QnnPlan:
    """Return the commands and the files that compile an ONNX file with the QNN tools.

    Args:
        source: an ONNX file with the card's contract.
        qpc_dir: the folder of the files and of the binary.
        sdk_root: the QNN SDK, QNN_SDK_ROOT.
        qnn_config: further arguments of the tools, as QEfficient's qnn_config.json has them.
        options: as for `plan`, where the QNN tools have them.

    Raises:
        BadInput: an option is unknown, can't be, or the QNN tools don't have it.
    """
    path, folder, root = Path(source), Path(qpc_dir), Path(sdk_root)
    if not path.is_file():
        raise BadInput("the QNN tools need an ONNX file", hint="export the model first")
    extra = check_config(qnn_config or {})
    return plan_qnn_of(path, path, folder, root, extra, read_options(options))


def plan_qnn_of(
    path: Path,
    named: Path,
    folder: Path,
    root: Path,
    extra: Mapping[str, Any],
    wanted: QpcOptions,
) -> QnnPlan:
    """Return the plan of the graph at `path`, which the commands call `named`; `extra` is a
    qnn_config that was checked.

    Raises:
        BadInput: as `plan_qnn`.
    """
    check_qnn_options(wanted)
    model = read_source(path, str(folder))
    wanted = check_decoder(wanted, model, _GENERATION)
    entries = decoder_specializations(wanted, _GENERATION)
    if len(entries) > len(qnn_io.GRAPHS):
        raise BadInput("the QNN tools take one prefill and one decode")
    files = _files(wanted, path, model.states, entries, folder, root, extra)
    commands = [] if extra.get(SKIP_KEY) else [_converter(named, folder, root, extra)]
    commands.append(_generator(wanted, folder, root, extra))
    return QnnPlan(commands, dict(sorted(files.items())), str(folder), str(folder / "qpc"))


def check_qnn_options(options: QpcOptions) -> None:
    """Refuse options that only the Apps SDK's compiler has.

    Raises:
        BadInput: naming the first.
    """
    defaults = QpcOptions()
    for name in ("aic_hw_version", "mdp_load_partition_config", "node_precision_info",
                 "use_onnx_subfunctions"):  # fmt: skip
        if getattr(options, name) != getattr(defaults, name):
            raise BadInput(f"the QNN tools don't have {name}")
    for name, _ in options.passed:
        if name not in _PASSED:
            raise BadInput(
                f"{name} is a flag of the Apps SDK's compiler, not of the QNN tools",
                hint=f"give it as {BACKEND_KEY} in qnn_config",
            )


def _files(
    options: QpcOptions,
    path: Path,
    states: Sequence[str],
    entries: Sequence[Specialization],
    folder: Path,
    root: Path,
    extra: Mapping[str, Any],
) -> dict[str, str]:
    inputs, outputs = qnn_io.read_ports(path)
    precision = custom_io.state_precision(options.mxint8_kv_cache)
    precisions = dict.fromkeys(custom_io.state_names(states, _GENERATION), precision)
    sizes = [entry.symbols for entry in entries]
    library = f"lib/{TARGET}/libQnnAicNetRunExtensions.so"
    extensions = {
        "config_file_path": str(folder / BACKEND_CONFIG),
        "shared_library_path": str(root / library),
    }
    backend = _backend(options, folder, len(entries)) | dict(extra.get(BACKEND_KEY, {}))
    files = {
        CONVERTER_CONFIG: qnn_io.io_config_text(inputs, outputs, precisions, sizes),
        BACKEND_CONFIG: json_text(backend, is_sorted=True),
        COMPILER_CONFIG: json_text({"backend_extensions": extensions}, is_sorted=True),
        FILE: json_text({"specializations": documents(entries, _GENERATION)}, is_sorted=False),
    }
    if options.num_devices > 1:
        document = partition.tensor_slices(options.num_devices, cores=None)
        files[PARTITION] = json_text(document, is_sorted=True)
    if options.mxint8_kv_cache:
        files[DATA_FORMAT] = qnn_io.data_format_text([*inputs, *outputs], len(entries))
    return files


def _backend(options: QpcOptions, folder: Path, graphs: int) -> dict[str, Any]:
    passed = dict(options.passed)
    backend: dict[str, Any] = {
        "compiler_compilation_target": "hardware",
        "compiler_hardware_version": "2.0",
        "compiler_convert_to_FP16": True,
        "compiler_retained_state": True,
        "graph_names": qnn_io.graph_names(graphs),
        "compiler_enable_depth_first": bool(passed.get("aic_enable_depth_first", False)),
        "compiler_mxfp6_matmul_weights": options.mxfp6_matmul,
        "compiler_num_of_cores": options.num_cores,
        "compiler_do_DDR_to_multicast": True,
        "compiler_perfWarnings": False,
        "compiler_printDDRStats": False,
        "compiler_printPerfMetrics": False,
        "compiler_stat_level": 10,
        "compiler_stats_batch_size": 1,
        "compiler_time_passes": False,
        "compiler_mxint8_mdp_io": bool(passed.get("allow_mxint8_mdp_io", False)),
    }
    mos = passed.get("mos", -1)
    if not isinstance(mos, int):
        raise BadInput("mos is a whole number for the QNN tools")
    if mos > 0:
        backend["compiler_max_out_channel_split"] = str(mos)
    if options.num_devices > 1:
        backend["compiler_mdp_load_partition_config"] = str(folder / PARTITION)
    return backend


def _converter(path: Path, folder: Path, root: Path, extra: Mapping[str, Any]) -> list[str]:
    return [
        str(root / "bin" / TARGET / "qairt-converter"),
        *("--input_network", str(path)),
        *("--output_path", str(folder / f"{qnn_io.MODEL}.dlc")),
        *("--config", str(folder / CONVERTER_CONFIG)),
        *("--float_bias_bitwidth", "32"),
        *("--float_bitwidth", "16"),
        "--preserve_io_datatype",
        "--onnx_skip_simplification",
        *("--target_backend", "AIC"),
        *words(extra, CONVERTER_KEY),
    ]


def _generator(
    options: QpcOptions, folder: Path, root: Path, extra: Mapping[str, Any]
) -> list[str]:
    more = words(extra, GENERATOR_KEY)
    formats = ["--data_format_config", str(folder / DATA_FORMAT)]
    return [
        str(root / "bin" / TARGET / "qnn-context-binary-generator"),
        *("--binary_file", "qnngraph.serialized"),
        *("--backend_binary", "programqpc.bin"),
        *("--output_dir", str(folder / "qpc")),
        *("--backend", str(root / "lib" / TARGET / "libQnnAic.so")),
        *("--dlc_path", str(folder / f"{qnn_io.MODEL}.dlc")),
        *("--config_file", str(folder / COMPILER_CONFIG)),
        *(formats if options.mxint8_kv_cache else []),
        *([] if "--log_level" in more else ["--log_level", "error"]),
        *more,
    ]
