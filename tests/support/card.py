"""Graphs for the card on disk and in ONNX Runtime, and the reference that they are held against."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modelc.decoder.builder import build_decoder
from modelc.decoder.config import DecoderModel
from modelc.ir.write import write_model
from modelc.passes.qaic.build import build_card_graph
from modelc.passes.qaic.options import QaicGraphOptions
from modelc.reference.stream import StreamedReference
from modelc.targets.qaic.engine import CallShapes
from modelc.targets.qaic.engine_onnx import OnnxEngine
from modelc.targets.qaic.loop import Loop

CONTEXT = 64


def write_card_graph(
    source: DecoderModel, folder: Path, context: int = CONTEXT, **options: Any
) -> Path:
    path = folder / "model.onnx"
    write_model(build_card_graph(source, context, QaicGraphOptions(**options)), path)
    return path


def open_loop(path: Path, context: int = CONTEXT, **shapes: Any) -> Loop:
    sizes = CallShapes(context_length=context, **shapes)
    return Loop(OnnxEngine(path, sizes, threads=1), sizes)


def reference(
    source: DecoderModel, tokens: Sequence[int] | np.ndarray, context: int = CONTEXT
) -> np.ndarray:
    return StreamedReference(build_decoder(source, context), threads=1).logits([*tokens])


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
