"""modelc: a compiler for machine-learning models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelc.api import (
        Bundle,
        NetworkBundle,
        QNNCompiler,
        compile,
        estimate,
        evaluate,
        explain,
        open_any,
    )

__version__ = "0.1.0"
__all__ = [
    "Bundle",
    "NetworkBundle",
    "QNNCompiler",
    "__version__",
    "compile",
    "estimate",
    "evaluate",
    "explain",
    "open_any",
]


def __getattr__(name: str) -> Any:
    # Imported on first use, so that `modelc --help` starts without numpy and onnx.
    if name in __all__:
        from modelc import api

        return getattr(api, name)
    raise AttributeError(f"module 'modelc' has no attribute {name!r}")
