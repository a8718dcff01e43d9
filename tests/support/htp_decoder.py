"""A decoder lowered for HTP and compiled: files as the pipeline makes them, whole or in parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import onnx_ir as ir

from modelc.decoder.builder import build_decoder
from modelc.decoder.check import linear_shapes
from modelc.decoder.config import DecoderSource
from modelc.decoder.parts import DecoderPart
from modelc.ir.encodings import Encoding
from modelc.ir.write import write_model
from modelc.passes.base import run_passes
from modelc.passes.htp.quantise import Quantise
from modelc.passes.htp.quantised_weights import weight_encoding
from modelc.passes.htp.split import split_decoder
from modelc.passes.pipelines import build_pipeline
from modelc.quant.calibrate import activation_encodings, gather_ranges
from modelc.quant.overrides import weight_kinds
from modelc.quant.schemes import SCHEMES, Scheme
from modelc.reference.stream import StreamedReference
from modelc.targets.snapdragon.chipsets import Chipset, find_chipset
from modelc.targets.snapdragon.compile import CompileOptions, compile_graphs
from modelc.targets.snapdragon.graph_names import GraphKey
from support.genie_loop import GenieLoop
from support.htp_graphs import Boundary, boundary, session

ARS = (8, 1)
CHIPSET = "snapdragon-8-elite"
ROWS = {**SCHEMES, "w8a16, kv16": replace(SCHEMES["w8a16"], kv="uint16")}


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
        return [compile_twin(path, folder, self.options, chipset) for path in self.files.values()]

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
    """Lower a source; the ranges of quantised schemes come from random tokens."""
    encodings = choose_encodings(source, context, ROWS[scheme])
    table = (source.config.vocab_size, source.config.hidden_size)
    shapes = {"model.embed_tokens": table, "lm_head": table, **dict(linear_shapes(source.config))}
    kinds = weight_kinds(shapes, ROWS[scheme], {})
    models, files = {}, {}
    folder.mkdir(parents=True, exist_ok=True)
    for ar in ars:
        quantised = {"encodings": encodings, "weights": kinds} if encodings else {}
        row = "htp-quantised" if encodings else "htp-float"
        passes = build_pipeline(row, {**quantised, "ar": ar, "context_length": context})
        models[ar], _ = run_passes(build_decoder(source, context), passes, graph=f"ar{ar}")
        files[ar] = folder / f"{GraphKey(ar, context, 1, 1).name}.onnx"
        write_model(models[ar], files[ar])
    return Lowered(source, context, scheme, models, files)


def lower_parts(
    source: DecoderSource,
    parts: Sequence[DecoderPart],
    contexts: Sequence[int],
    scheme: Scheme,
    folder: Path,
    ars: Sequence[int] = ARS,
) -> list[Path]:
    """Lower every part for every AR length and context length; return files called after them."""
    encodings = choose_encodings(source, max(contexts), scheme)
    files = []
    folder.mkdir(parents=True, exist_ok=True)
    for ar, context in product(ars, contexts):
        passes = build_pipeline("htp-float", {"ar": ar, "context_length": context})
        whole, _ = run_passes(build_decoder(source, context), passes, graph=f"ar{ar}")
        for index, model in enumerate(split_decoder(whole, parts), 1):
            if encodings:
                model, _ = run_passes(model, [Quantise(encodings)], graph=f"ar{ar}")
            files.append(folder / f"{GraphKey(ar, context, index, len(parts)).name}.onnx")
            write_model(model, files[-1])
    return files


def choose_encodings(source: DecoderSource, context: int, scheme: Scheme) -> dict[str, Encoding]:
    """Gather ranges on random tokens; what the embedding looks up has its table's encoding."""
    if scheme.activations == "float":
        return {}
    tokens = np.random.default_rng(3).integers(0, source.config.vocab_size, (6, context))
    graph, _ = run_passes(
        build_decoder(source, context), build_pipeline("expanded", {}), graph="decoder"
    )
    [rows] = [node for node in graph.graph if node.outputs[0].name == "model.embed_tokens"]
    return {
        **activation_encodings(gather_ranges(graph, tokens.tolist()), scheme.kv),
        "model.embed_tokens": weight_encoding(rows.inputs[0], "uint16"),
    }


def compile_twin(model: Path, folder: Path, options: CompileOptions, chipset: Chipset) -> Path:
    """Compile a graph alone; return the wrapper."""
    [wrapper] = compile_graphs(
        {model.stem: model},
        chipset,
        options,
        folder / f"{model.stem}.bin",
        workdir=folder / "work",
        timeout_s=120,
    ).wrappers.values()
    return wrapper
