"""Sessions of ONNX Runtime's QNN provider: the only way in which modelc reaches the compiler.

Child processes only: the provider crashes on bad input, and its registrations are global.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from modelc.targets.snapdragon.library import library_path
from modelc.targets.snapdragon.wrapper import PROVIDER

# ONNX Runtime's log levels.
VERBOSE: Final = 0
WARNINGS: Final = 2


def open_session(
    model: Path,
    *,
    registration: str = PROVIDER,
    options: Mapping[str, str] | None = None,
    entries: Mapping[str, str] | None = None,
    severity: int = WARNINGS,
) -> Any:
    """Return an onnxruntime.InferenceSession of `model` that runs on the provider as a whole.

    Args:
        registration: the name under which the provider is registered; the names of the QNN graphs
            that it makes begin with it, and there is no other way to choose them.
        options: provider options, in addition to the path of libQnnHtp.
        entries: session configuration entries.
        severity: the least severe messages that are logged.
    """
    import onnxruntime

    known = {device.ep_name for device in onnxruntime.get_ep_devices()}
    if registration not in known:
        path = library_path("onnxruntime_providers_qnn")
        onnxruntime.register_execution_provider_library(registration, str(path))
    device = next(d for d in onnxruntime.get_ep_devices() if d.ep_name == registration)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = severity
    # Without this, nodes that HTP refuses would quietly run on the CPU.
    settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    for key, value in (entries or {}).items():
        settings.add_session_config_entry(key, value)
    everything = {"backend_path": str(library_path("QnnHtp")), **(options or {})}
    settings.add_provider_for_devices([device], everything)
    return onnxruntime.InferenceSession(str(model), settings)
