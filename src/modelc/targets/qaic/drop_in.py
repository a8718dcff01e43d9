"""`compile_kv_model_on_cloud_ai_100`, as scripts written for QEfficient call it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from modelc.errors import BadInput, Where
from modelc.files import write_atomic
from modelc.targets.qaic import partition
from modelc.targets.qaic.commands import fill
from modelc.targets.qaic.compiler_flags import Passed, check_flag, flag_text
from modelc.targets.qaic.execute import Work, compile_once
from modelc.targets.qaic.generations import Generation, generation_of
from modelc.targets.qaic.options import OPTIONS, read_options
from modelc.targets.qaic.record import qpc_key
from modelc.targets.qaic.sdk import AppsSdk, card_version, find_apps_sdk
from modelc.targets.qaic.specializations import json_text

PARTITION: Final = "mdp_ts_config.json"
BINARY_DIR: Final = "qpcs"
_LARGEST: Final = 1 << 26


def compile_kv_model_on_cloud_ai_100(
    onnx_path: str,
    specializations_json: str,
    num_cores: int,
    base_path: str,
    mxfp6: bool,
    custom_io_path: str,
    aic_enable_depth_first: bool,
    allow_mxint8_mdp_io: bool,
    mos: int = -1,
    device_group: list[int] | None = None,
    **kwargs: Any,
) -> tuple[bool, str]:
    """Compile an ONNX file for the card with the installed SDK, and return whether that went well
    and the folder of the binary, `base_path`/qpcs.

    A whole binary of the same inputs and options is kept; one that was interrupted is made again.

    Args:
        mos: the effort to need less on-chip memory; below 1 it is not passed on.
        device_group: devices among which every matrix is split.
        kwargs: further flags of the compiler.

    Raises:
        BadInput: a file is missing, or a flag unknown.
        Missing: no SDK is installed.
        ToolFailed: the compiler failed.
    """
    hw_asked = kwargs.pop("aic_hw_version", kwargs.pop("aic-hw-version", None))
    flags = _flags(mos, aic_enable_depth_first, allow_mxint8_mdp_io)
    passed = [(name, check_flag(name, value, OPTIONS)) for name, value in kwargs.items()]
    devices = max(len(device_group or ()), 1)
    asked = read_options({"num_cores": num_cores, "num_devices": devices})
    files = {"specializations": _text(specializations_json), "custom_io": _text(custom_io_path)}
    sdk = find_apps_sdk(os.environ)
    generation = generation_of(sdk.version)
    hw = _hw_version(hw_asked, sdk, generation)
    base = Path(base_path)
    base.mkdir(parents=True, exist_ok=True)
    slots = {
        "model": [f"-m={onnx_path}"],
        "hw_version": [f"-aic-hw-version={hw}"],
        "specializations": [f"-network-specialization-config={specializations_json}"],
        "cores": [f"-aic-num-cores={num_cores}"],
        "custom_io": [f"-custom-IO-list-file={custom_io_path}"],
        "binary": [f"-aic-binary-dir={base / BINARY_DIR}"],
        "mxfp6": ["-mxfp6-matmul"] if mxfp6 else [],
        "flags": [text for name, value in flags for text in flag_text(name, value)],
        "passed": [text for name, value in passed for text in flag_text(name, value)],
    }
    if devices > 1:
        document = partition.tensor_slices(devices, asked.num_cores)
        write_atomic(base / PARTITION, json_text(document, is_sorted=False).encode())
        slots["partition"] = [f"-mdp-load-partition-config={base / PARTITION}"]
    options = {
        "num_cores": num_cores,
        "num_devices": devices,
        "mxfp6_matmul": bool(mxfp6),
        "aic_hw_version": hw,
        **dict([*flags, *passed]),
    }
    key = qpc_key(Path(onnx_path), options, sdk_version=sdk.version, files=files)
    argv = [str(sdk.compiler), *fill(generation.kv_order, slots)]
    compile_once(Work([argv], Path.cwd(), base, base / BINARY_DIR, key, options, sdk.version))
    return True, str(base / BINARY_DIR)


def _hw_version(asked: object, sdk: AppsSdk, generation: Generation) -> str:
    """Return the card: the one that is asked for, or that of this machine."""
    known = generation.hw_versions
    hw = asked or (card_version(sdk) if len(known) > 1 else known[0])
    if hw not in known:
        raise BadInput(f"Apps SDK {sdk.version} has no aic_hw_version {hw}")
    return str(hw)


def _flags(mos: int, depth_first: bool, mxint8_mdp_io: bool) -> list[tuple[str, Passed]]:
    flags: list[tuple[str, Passed]] = [("mos", mos)] if mos > 0 else []
    flags += [("aic_enable_depth_first", True)] if depth_first else []
    return [*flags, ("allow_mxint8_mdp_io", True)] if mxint8_mdp_io else flags


def _text(path: str) -> str:
    try:
        if Path(path).stat().st_size > _LARGEST:
            raise BadInput("too large for what it is", where=Where(path=path))
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{Path(path).name} can't be read", where=Where(path=path)) from error
