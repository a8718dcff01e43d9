"""The canonical graph with everything rounded as a scheme stores it (`passes.simulate`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelc.pipeline.imported_weights import SCALES
from modelc.pipeline.steps_graphs import ENCODINGS

if TYPE_CHECKING:
    import onnx_ir as ir


def rounded_graph(model: ir.Model, encodings: Path | None, **settings: Any) -> ir.Model:
    """Return the expanded graph with weights and activations rounded; `model` is changed.

    Args:
        encodings: the result of the step of this name; None for a scheme without ranges.
        settings: other fields of `passes.simulate.Simulate`.
    """
    from modelc.ir.encodings import load
    from modelc.ir.packing import given_scales
    from modelc.passes.base import run_passes
    from modelc.passes.pipelines import build_pipeline

    if encodings is not None:
        settings["encodings"] = load(encodings / ENCODINGS)
        if (encodings / SCALES).exists():
            settings["scales"] = given_scales.load(encodings / SCALES)
    return run_passes(model, build_pipeline("simulated", settings), graph="decoder")[0]
