"""What the Apps SDK's compiler is given for a binary (QPC): the command line and its files.

The forms are those of the SDK's own front end, QEfficient 1.20 to 1.23: `generations.py`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from modelc.errors import BadInput
from modelc.targets.qaic import custom_io, node_precision, partition, specializations
from modelc.targets.qaic.commands import fill
from modelc.targets.qaic.compiler_flags import flag_text
from modelc.targets.qaic.generations import Generation, generation_of
from modelc.targets.qaic.options import QpcOptions, read_options
from modelc.targets.qaic.plan_check import check_decoder, check_embedding
from modelc.targets.qaic.source import Source, read_source

SDK: Final = "/opt/qti-aic"
"""Where the Apps SDK is installed."""
_DUMP: Final = "mdp_dump_partition_config"


@dataclass(frozen=True)
class QpcPlan:
    """How to compile one binary; nothing has been written or run.

    Attributes:
        argv: the command, the compiler's program first.
        files: what must lie in `qpc_dir` before it runs, name to text.
        qpc_dir: the folder of the files, and of the folder `qpc` that the compiler makes.
        onnx: the graph that the command reads.
        options: what was asked for, with the defaults.
        sdk_version: as it was given.
    """

    argv: list[str]
    files: dict[str, str]
    qpc_dir: str
    onnx: str
    options: Mapping[str, Any] = field(default_factory=dict)
    sdk_version: str = ""

    @property
    def binary_dir(self) -> str:
        """The folder in which the compiler writes `programqpc.bin`."""
        return str(Path(self.qpc_dir, "qpc"))


def plan(
    source: str | os.PathLike[str],
    *,
    sdk_version: str = "1.23",
    qpc_dir: str | os.PathLike[str],
    **options: Any,
) -> QpcPlan:
    """Return the command and the files that compile a model for Cloud AI 100.

    Args:
        source: an ONNX file with the card's contract, or a Hugging Face folder, whose ONNX is
            taken to lie beside `qpc_dir` under its architecture's name.
        sdk_version: the Apps SDK that is to compile it, "1.20" to "1.23" and newer.
        qpc_dir: the folder of the files.
        options: the fields of `QpcOptions`, or flags of the compiler in its table.

    Raises:
        BadInput: an option is unknown (with the nearest known name), can't be, or doesn't go with
            the others, with the graph or with the SDK.
    """
    folder = os.fspath(qpc_dir)
    wanted = read_options(options)
    return plan_of(read_source(source, folder), folder, sdk_version, wanted, options)


def plan_of(
    model: Source,
    folder: str,
    sdk_version: str,
    wanted: QpcOptions,
    options: Mapping[str, Any],
) -> QpcPlan:
    """Return the plan of a graph that is known; `options` are those that `wanted` was read from.

    Raises:
        BadInput: as `plan`.
    """
    generation = generation_of(sdk_version)
    if model.states:
        wanted = check_decoder(wanted, model, generation)
        entries = specializations.decoder_specializations(wanted, generation)
    else:
        check_embedding(wanted, options)
        entries = specializations.embedding_specializations(wanted)
    if not entries:
        raise BadInput("nothing is left to compile: neither prefill nor decode")
    files = _files(wanted, model, entries, generation)
    argv = _argv(wanted, model, folder, files, generation)
    files = _given_files(wanted) | files
    return QpcPlan(
        argv, dict(sorted(files.items())), folder, model.onnx, _document(wanted), sdk_version
    )


def _files(
    options: QpcOptions,
    model: Source,
    entries: Sequence[specializations.Specialization],
    generation: Generation,
) -> dict[str, str]:
    files = {specializations.FILE: specializations.specializations_text(entries, generation)}
    if model.states:
        precision = custom_io.state_precision(options.mxint8_kv_cache)
        files[custom_io.FILE] = custom_io.custom_io_text(model.states, precision, generation)
    if _splits(options):
        document = partition.tensor_slices(options.num_devices, options.num_cores)
        text = specializations.json_text(document, generation.sorted_json)
        files[partition.file_name(options.num_devices)] = text
    if options.node_precision_info:
        text = node_precision.node_precision_text(options.node_precision_info)
        files[node_precision.FILE] = text
    return files


def _given_files(options: QpcOptions) -> dict[str, str]:
    """Return the node precision file that the command names by its path, to go with the others."""
    path = dict(options.passed).get("node_precision_info")
    text = node_precision.given_text(path) if isinstance(path, str) else None
    return {} if text is None else {Path(str(path)).name: text}


def _argv(
    options: QpcOptions,
    model: Source,
    folder: str,
    files: Mapping[str, str],
    generation: Generation,
) -> list[str]:
    def of_file(flag: str, name: str) -> list[str]:
        return [f"{flag}={Path(folder, name)}"] if name in files else []

    flags = ["-retained-state"] if model.states else []
    flags += ["-convert-to-fp16", *(["-mxfp6-matmul"] if options.mxfp6_matmul else [])]
    flags.append(f"-aic-num-cores={options.num_cores}")
    apart = {_DUMP} if "{dump}" in generation.order else set[str]()
    texts = {name: flag_text(name, value) for name, value in options.passed}
    flags += [text for name, made in texts.items() if name not in apart for text in made]
    flags += of_file("-node-precision-info", node_precision.FILE)
    flags += ["-sub-functions"] if options.use_onnx_subfunctions else []
    given = options.mdp_load_partition_config
    load = "-mdp-load-partition-config"
    slots = {
        "hw_version": [f"-aic-hw-version={options.aic_hw_version or generation.hw_versions[0]}"],
        "model": [f"-m={model.onnx}"],
        "flags": flags,
        "dump": texts.get(_DUMP, []),
        "given_partition": [f"{load}={given}"] if given else [],
        "partition": of_file(load, partition.file_name(options.num_devices)),
        "specializations": of_file("-network-specialization-config", specializations.FILE),
        "custom_io": of_file("-custom-IO-list-file", custom_io.FILE),
        "binary": [f"-aic-binary-dir={Path(folder, 'qpc')}"],
    }
    return [f"{SDK}/exec/{generation.compiler}", *fill(generation.order, slots)]


def _splits(options: QpcOptions) -> bool:
    """Whether a partition file is to be written: not if there is one, or one is to be dumped."""
    dumps = _DUMP in dict(options.passed)
    return options.num_devices > 1 and not options.mdp_load_partition_config and not dumps


def _document(options: QpcOptions) -> dict[str, Any]:
    """Return options as plain values, those of the compiler under their own names."""
    plain = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in vars(replace(options, passed=())).items()
        if name != "passed" and value is not None
    }
    return {**plain, **dict(options.passed)}
