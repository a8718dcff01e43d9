"""Where the vendor's libraries are: in the onnxruntime-qnn wheel, never shipped by modelc."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from pathlib import Path

from modelc.errors import Missing


def library_path(name: str) -> Path:
    """Return the path of a library ("QnnHtp", "Genie", "onnxruntime_providers_qnn", ...).

    Raises:
        Missing: onnxruntime-qnn is not installed, or has no such library on this platform.
    """
    spec = importlib.util.find_spec("onnxruntime_qnn")
    if spec is None or not spec.submodule_search_locations:
        raise Missing(
            "onnxruntime-qnn is not installed",
            hint="pip install onnxruntime-qnn (Linux x86-64 and Windows)",
        )
    file = f"{name}.dll" if sys.platform == "win32" else f"lib{name}.so"
    path = Path(spec.submodule_search_locations[0], file)
    if not path.exists():
        raise Missing(f"onnxruntime-qnn has no {file} here", hint="use Linux x86-64 or Windows")
    return path


def toolchain() -> str:
    """Return the versions that a compiled binary depends on, for cache keys and manifests.

    Raises:
        Missing: onnxruntime-qnn is not installed.
    """
    library_path("QnnHtp")
    versions = [
        f"{name} {importlib.metadata.version(name)}" for name in ("onnxruntime", "onnxruntime-qnn")
    ]
    return ", ".join(versions)
