"""A decoder lowered for HTP and compiled: files as the pipeline makes them, for AR-8 and AR-1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from modelc.decoder.builder import build_decoder
from modelc.decoder.config import DecoderSource
from modelc.ir.write import write_model
from modelc.passes.base import run_passes
from modelc.passes.pipelines import build_pipeline
from modelc.quant.calibrate import activation_encodings, gather_ranges
from modelc.quant.schemes import SCHEMES
from modelc.reference.stream import StreamedReference
from modelc.targets.snapdragon.chipsets import Chipset, find_chipset
from modelc.targets.snapdragon.compile import CompileOptions, compile_graphs
from modelc.targets.snapdragon.graph_names import GraphKey
from support.genie_loop import GenieLoop
from support.htp_graphs import Boundary, boundary, session

ARS = (8, 1)
CHIPSET = "snapdragon-8-elite"


@dataclass(frozen=True)
class Lowered:
    """Static graphs of each AR length, in memory and in files called after them."""

    source: DecoderSource
    context: int
    scheme: str
    models: dict[int, ir.Model]
    files: dict[int, Path]

    @property
    def options(self) -> CompileOptions:
        return CompileOptions(fp16=self.scheme == "fp16")

    def twins(self, folder: Path, chipset: Chipset | None = None) -> list[Path]:
        """Compile each graph alone; return the wrappers."""
        chipset = chipset or find_chipset(CHIPSET)
        wrappers = []
        for path in self.files.values():
            made = compile_graphs(
                {path.stem: path},
                chipset,
                self.options,
                folder / f"{path.stem}.bin",
                workdir=folder / "work",
                timeout_s=120,
            )
            wrappers += made.wrappers.values()
        return wrappers

    def on_cpu(self, token_ids: Sequence[int], folder: Path) -> np.ndarray:
        """Return the logits of the same graphs on ONNX Runtime."""
        runs = {ar: session(model, folder / f"ar{ar}.onnx") for ar, model in self.models.items()}
        tables = build_decoder(self.source, self.context).graph.initializers
        cos, sin = (tables[f"rope.{name}"].const_value.numpy() for name in ("cos", "sin"))
        config = self.source.config
        loop = GenieLoop(runs, cos, sin, config.kv_heads, config.head_dim, config.layers)
        longest = max(self.models)
        edge: Boundary = boundary(self.models[longest])
        if edge.encodings:
            loop.quantise, loop.dequantise, loop.hidden = edge.quantise, edge.dequantise, -100.0
        chunks = self.context // longest * longest  # beyond, a call of the longest has no room
        rows = [loop.logits(token_ids[:chunks], longest)]
        if len(token_ids) > chunks:
            rows.append(loop.logits(token_ids[chunks:], min(self.models)))
        return np.concatenate(rows)

    def reference(self, token_ids: Sequence[int]) -> np.ndarray:
        """Return the logits of the float model."""
        return StreamedReference(build_decoder(self.source, self.context)).logits(token_ids)


def lower(
    source: DecoderSource, context: int, scheme: str, folder: Path, ars: Sequence[int] = ARS
) -> Lowered:
    """Lower a source; w8a16's ranges come from random tokens."""
    settings, row = {}, "htp-float"
    if scheme != "fp16":
        row = "htp-quantised"
        tokens = np.random.default_rng(3).integers(0, source.config.vocab_size, (6, context))
        graph, _ = run_passes(
            build_decoder(source, context), build_pipeline("expanded", {}), graph="decoder"
        )
        ranges = gather_ranges(graph, tokens.tolist())
        settings["encodings"] = activation_encodings(ranges, SCHEMES[scheme])
    models, files = {}, {}
    folder.mkdir(parents=True, exist_ok=True)
    for ar in ars:
        passes = build_pipeline(row, {**settings, "ar": ar, "context_length": context})
        models[ar], _ = run_passes(build_decoder(source, context), passes, graph=f"ar{ar}")
        files[ar] = folder / f"{GraphKey(ar, context, 1, 1).name}.onnx"
        write_model(models[ar], files[ar])
    return Lowered(source, context, scheme, models, files)
