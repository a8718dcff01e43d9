"""MLPerf's compile and calibrate commands for the card, as MLCommons' automation builds them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal

from modelc.errors import BadInput
from modelc.targets.qaic.mlperf_table import LATEST
from modelc.targets.qaic.mlperf_tags import Preset, read_tags

Kind = Literal["compile", "calibrate"]

EXEC: Final = "/opt/qti-aic/exec/qaic-exec"
PROFILE: Final = "profile.yaml"
BATCHED_INPUTS: Final = "batched_input_files"
BINARY_DIR: Final = "elfs"
NODE_PRECISION_FILE: Final = "node-precision-info.yaml"
_PREFIXES: Final = ("CM", "MLC")
_SHELL: Final = frozenset("\"'`$;&|()*?\\\0")


def mlperf_command(
    kind: str,
    tags: str,
    *,
    model: str | os.PathLike[str],
    profile: str | os.PathLike[str] | None = None,
    input_list: str | os.PathLike[str] | None = None,
    exec_path: str | os.PathLike[str] = EXEC,
    release: str = LATEST,
    node_precision_info: str | os.PathLike[str] | None = None,
    profiling_threads: int = 32,
    work_dir: str | os.PathLike[str] | None = None,
) -> str:
    """Return the shell command that compiles, or calibrates, a benchmark's model.

    Args:
        kind: "compile" or "calibrate".
        tags: model, scenario, nsp.N, bs.N, pc.X, quantized or no-quantized; for calibration also
            seq.N.
        model: the model's file.
        profile: what calibration wrote; None is profile.yaml in `work_dir`.
        input_list: the list of calibration inputs that bert reads. Pictures are read in batches,
            from the list batched_input_files that `mlperf_inputs.write_batches` makes.
        exec_path: the compiler.
        release: the round of MLPerf Inference, "3.1" or "4.0".
        node_precision_info: retinanet's file; None is node-precision-info.yaml beside the model.
        profiling_threads: threads of calibration.
        work_dir: where the command runs; None is the current folder.

    Raises:
        BadInput: the tags are impossible, or what the command needs is not given.
    """
    if kind not in ("compile", "calibrate"):
        raise BadInput(f"{kind!r} is neither compile nor calibrate")
    _check_paths(model, profile, input_list, exec_path, node_precision_info, work_dir)
    preset = read_tags(tags, release=release, for_calibration=kind == "calibrate")
    precision = node_precision_info or Path(model).parent / NODE_PRECISION_FILE
    if kind == "calibrate":
        return _calibrate(preset, model, input_list, exec_path, precision, profiling_threads)
    folder = Path.cwd() if work_dir is None else Path(work_dir)
    load = f" -load-profile={profile or folder / PROFILE}" if preset.is_quantised else ""
    base = preset.about.base.format(node_precision=precision)
    batch = f" -batchsize={preset.batch}" if preset.batch else ""
    percentile = (
        f" -quantization-calibration=Percentile  -percentile-calibration-value={preset.percentile}"
        if preset.percentile
        else ""
    )
    return (
        f"{exec_path} -model={model}{load} -aic-binary-dir={folder / BINARY_DIR} "
        f"{base} {preset.args} {preset.sut}{batch}{percentile}"
    )


def environment(
    tags: str,
    *,
    model: str | os.PathLike[str],
    work_dir: str | os.PathLike[str],
    profile: str | os.PathLike[str] | None = None,
    command: str = "",
    release: str = LATEST,
) -> dict[str, str]:
    """Return what MLCommons' scripts are told of a compile, under both of their prefixes.

    Args:
        model: what was compiled.
        work_dir: where it was; the binary is elfs/programqpc.bin there.
        command: the command that compiled it.

    Raises:
        BadInput: the tags are impossible.
    """
    preset = read_tags(tags, release=release)
    binary = str(Path(work_dir) / BINARY_DIR / "programqpc.bin")
    values = {
        "QAIC_MODEL_COMPILED_BINARY_WITH_PATH": binary,
        "ML_MODEL_FILE_WITH_PATH": binary,
        "QAIC_MODEL_SOURCE_FILE_WITH_PATH": str(model),
        "QAIC_MODEL_QUANTIZATION": "yes" if preset.is_quantised else "no",
        "QAIC_MODEL_FINAL_COMPILATION_CMD": command,
        "QAIC_MODEL_BATCH_SIZE": str(preset.batch or ""),
        "QAIC_MODEL_PROFILE_WITH_PATH": "" if profile is None else str(profile),
        "QAIC_MODEL_COMPILER_PERCENTILE_CALIBRATION_VALUE": preset.percentile,
    }
    return prefixed({name: value for name, value in values.items() if value})


def prefixed(values: dict[str, str]) -> dict[str, str]:
    """Return environment keys under the prefixes of both generations of the scripts."""
    return {f"{prefix}_{name}": text for prefix in _PREFIXES for name, text in values.items()}


def _check_paths(*paths: str | os.PathLike[str] | None) -> None:
    """Refuse what a shell would take apart: the command's form has no quotes."""
    for path in paths:
        if path is not None and any(c.isspace() or c in _SHELL for c in os.fspath(path)):
            raise BadInput(f"{os.fspath(path)!r} can't stand in a shell command without quotes")


def _calibrate(
    preset: Preset,
    model: str | os.PathLike[str],
    input_list: str | os.PathLike[str] | None,
    exec_path: str | os.PathLike[str],
    node_precision: str | os.PathLike[str],
    threads: int,
) -> str:
    about = preset.about
    if not about.calibrate:
        raise BadInput(f"{preset.model} is not quantized: it needs no calibration")
    if preset.batch and not about.is_batched:
        raise BadInput(f"{preset.model} is calibrated on its list as it is", hint="leave out bs.N")
    if "{batch}" in about.calibrate and not preset.batch:
        raise BadInput(f"{preset.model} is calibrated in batches", hint="add bs.N to the tags")
    if "{input_list}" in about.calibrate and input_list is None:
        raise BadInput(f"{preset.model} needs the list of its calibration inputs")
    if about.is_batched and not preset.batch and input_list is not None:
        raise BadInput("the list is read in batches", hint="add bs.N to the tags")
    parameters = about.calibrate.format(
        batch=preset.batch,
        threads=threads,
        length=preset.length,
        input_list=input_list,
        node_precision=node_precision,
    )
    batched = f" -input-list-file={BATCHED_INPUTS}  -batchsize={preset.batch} "
    return (
        f"{exec_path} {batched if preset.batch else ''}{parameters} "
        f"-dump-profile={PROFILE} -model={model}"
    )
