"""What this machine can do: versions, tools, targets that can be compiled and run here."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from modelc.errors import BadInput, ModelcError

PACKAGES = (
    "modelc", "onnx", "onnx-ir", "onnxruntime", "onnxruntime-qnn", "numpy", "gguf", "safetensors",
    "tokenizers",
)  # fmt: skip


@dataclass(frozen=True)
class Diagnosis:
    """One thing that was looked at: "missing" keeps a target from working, "note" doesn't."""

    name: str
    state: Literal["ok", "note", "missing"]
    detail: str


def diagnose() -> list[Diagnosis]:
    """Look at the machine; starts the vendor's libraries in a child process."""
    return [
        Diagnosis("python", "ok", f"{platform.python_version()} on {platform.platform()}"),
        _machine(),
        _store(),
        *(_package(name) for name in PACKAGES),
        _cpu(),
        _snapdragon(),
        _sdk(),
        _card_compiler(),
        _card_runtime(),
        _cuda_compiler(),
        _cuda_runtime(),
    ]


def _machine() -> Diagnosis:
    cores = os.cpu_count() or 0
    detail = f"{cores} cores"
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        detail += f", {total / 1e9:.1f} GB of memory"
    return Diagnosis("machine", "ok", detail)


def _store() -> Diagnosis:
    from modelc.pipeline.store import Store

    try:
        root = Store().root
    except ModelcError as error:
        return Diagnosis("store", "missing", f"{error.message}; {error.hint}")
    free = shutil.disk_usage(root).free
    state: Literal["ok", "note"] = "ok" if free > 2e9 else "note"
    return Diagnosis("store", state, f"{root}, {free / 1e9:.1f} GB free")


def _package(name: str) -> Diagnosis:
    try:
        return Diagnosis(name, "ok", metadata.version(name))
    except metadata.PackageNotFoundError:
        return Diagnosis(name, "missing", "not installed")


def _cpu() -> Diagnosis:
    import onnxruntime

    offered = onnxruntime.get_available_providers()
    state: Literal["ok", "missing"] = "ok" if "CPUExecutionProvider" in offered else "missing"
    return Diagnosis("target cpu", state, ", ".join(offered))


def _snapdragon() -> Diagnosis:
    from modelc.targets.snapdragon.genie import check_genie_config
    from modelc.targets.snapdragon.library import toolchain

    name = "targets snapdragon"
    try:
        versions = toolchain()
        with tempfile.TemporaryDirectory(prefix="modelc-") as scratch:
            # An empty configuration is refused by Genie itself: so its library loads and answers.
            check_genie_config({}, workdir=Path(scratch))
    except BadInput:
        return Diagnosis(name, "ok", f"{versions}; Genie answers")
    except ModelcError as error:
        return Diagnosis(name, "missing", f"{error.message}; {error.hint}")
    return Diagnosis(name, "note", f"{versions}; Genie takes an empty configuration")


def _sdk() -> Diagnosis:
    from modelc.targets.snapdragon.sdk.find import find_sdk

    name = "toolchain sdk"
    try:
        return Diagnosis(name, "ok", str(find_sdk(os.environ)))
    except ModelcError as error:
        return Diagnosis(name, "note", f"{error.message}; {error.hint}")


def _card_compiler() -> Diagnosis:
    from modelc.targets.qaic.sdk import find_apps_sdk

    name = "targets qaic, compiler"
    try:
        sdk = find_apps_sdk(os.environ)
    except ModelcError as error:
        return Diagnosis(name, "note", f"{error.message}; without it compiles are only prepared")
    return Diagnosis(name, "ok", f"Apps SDK {sdk.version} in {sdk.root}")


def _card_runtime() -> Diagnosis:
    from modelc.targets.qaic.engine_card import import_runtime

    name = "targets qaic, runtime"
    try:
        import_runtime("qaicrt")
    except ModelcError as error:
        return Diagnosis(name, "note", f"{error.message}")
    return Diagnosis(name, "ok", "qaicrt can be imported")


def _cuda_compiler() -> Diagnosis:
    from modelc.targets.cuda.aot import check_triton

    name = "targets cuda, compiler"
    try:
        check_triton()
    except ModelcError as error:
        return Diagnosis(name, "note", f"{error.message}; {error.hint}")
    return Diagnosis(name, "ok", f"Triton {metadata.version('triton')}")


def _cuda_runtime() -> Diagnosis:
    from modelc.targets.cuda.choose_engine import gpu_name

    name = "targets cuda, runtime"
    try:
        gpu = gpu_name()
    except ModelcError as error:
        return Diagnosis(name, "note", f"{error.message}; {error.hint}")
    if gpu:
        return Diagnosis(name, "ok", gpu)
    return Diagnosis(name, "note", "no GPU: bundles run on reference operators, slowly")
