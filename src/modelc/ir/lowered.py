"""Lowered graphs on disk, as vendors' tools read them: an ONNX file and its weights beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import onnx_ir as ir

INLINE_BYTES: Final = 1024  # constants up to this many bytes stay in the ONNX file


def write_lowered(model: ir.Model, path: Path) -> None:
    """Write `path` and, for its weights, `path`.data beside it; the model stays as it is.

    Lazy weights are computed one at a time and let go, so memory is bounded by the largest.
    """
    ir.save(
        model,
        path,
        external_data=f"{path.name}.data",
        size_threshold_bytes=INLINE_BYTES,
    )
