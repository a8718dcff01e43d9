"""A tiny decoder lowered so far, and run as Genie runs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from modelc.decoder.builder import build_decoder
from modelc.decoder.config import DecoderSource, Rope
from modelc.ir.encodings import Encoding, IntegerType
from modelc.ir.write import write_model
from modelc.passes.base import run_passes
from modelc.passes.pipelines import PIPELINES, build_pipeline
from modelc.quant.calibrate import activation_encodings, gather_ranges
from modelc.reference.stream import StreamedReference
from support.genie_loop import GenieLoop, Run
from support.tiny_source import tiny_config, tiny_source, write_weights

CONTEXT = 24
TOKENS = [1, 5, 9, 12, 3, 39, 7, 7, 2, 30, 11, 8, 0, 21, 17, 25, 6]

VARIANTS = {
    "llama": {},
    "no groups": {"kv_heads": 4},
    "one key head": {"kv_heads": 1},
    "wide heads": {"head_dim": 16, "rope": Rope(dim=16)},
    "partial rope": {"rope": Rope(dim=4)},
    "longrope": {
        "rope": Rope(
            "longrope",
            dim=8,
            original_context=16,
            short_factors=(1.0, 1.1, 1.2, 1.3),
            long_factors=(1.5, 2.0, 3.0, 4.0),
        )
    },
    "qwen2": {"architecture": "qwen2", "biases": True},
    "qwen3": {"architecture": "qwen3"},
    "gemma2": {
        "architecture": "gemma2",
        "attention_softcap": 2.0,
        "logit_softcap": 5.0,
        "embedding_scale": 32**0.5,
        "activation": "gelu_tanh",
        "tied_head": True,
    },
    "wide window": {"windows": (0, CONTEXT)},
}


def make_source(folder: Path, biases: bool = False, **changes: Any) -> DecoderSource:
    source = tiny_source(tiny_config(**changes), folder / "weights.bin", biases)
    write_weights(source)
    return source


def lower(source: DecoderSource, upto: str, ar: int = 4, **settings: Any) -> ir.Model:
    """Run the passes of a pipeline up to the one whose dotted name ends with `upto`."""
    row = "htp-quantised" if "encodings" in settings else "htp-float"
    count = 1 + next(i for i, name in enumerate(PIPELINES[row]) if name.endswith(f":{upto}"))
    settings = {"ar": ar, "context_length": CONTEXT, **settings}
    passes = build_pipeline(row, settings)[:count]
    return run_passes(build_decoder(source, CONTEXT), passes, graph=f"ar{ar}")[0]


def encodings(source: DecoderSource, kv: IntegerType = "uint8") -> dict[str, Encoding]:
    """Gather ranges on `TOKENS` and some more."""
    (expand,) = build_pipeline("expanded", {})
    model, _ = run_passes(build_decoder(source, CONTEXT), [expand], graph="expanded")
    more = np.random.default_rng(3).integers(0, 40, (4, CONTEXT)).tolist()
    return activation_encodings(gather_ranges(model, [TOKENS, *more]), kv)


def reference(source: DecoderSource) -> np.ndarray:
    return StreamedReference(build_decoder(source, CONTEXT)).logits(TOKENS)


def session(model: ir.Model, path: Path) -> Run:
    """Run a graph on ONNX Runtime CPU as it stands in its file."""
    write_model(model, path)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    opened = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in opened.get_outputs()]
    return lambda feeds: dict(zip(names, opened.run(names, dict(feeds)), strict=True))


@dataclass(frozen=True)
class Boundary:
    """The encodings of a quantised graph's inputs and outputs, as its nodes have them."""

    encodings: dict[str, Encoding]

    def quantise(self, name: str, values: np.ndarray) -> np.ndarray:
        return self.encodings[name].quantise(values)

    def dequantise(self, name: str, codes: np.ndarray) -> np.ndarray:
        return self.encodings[name].dequantise(codes)


def boundary(model: ir.Model) -> Boundary:
    graph = model.graph
    found = {}
    for value in [*graph.inputs, *graph.outputs]:
        producer = value.producer()
        node = producer or next(n for n in value.consumers())
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            found[str(value.name)] = encoding_of(node)
    return Boundary(found)


def encoding_of(node: ir.Node) -> Encoding:
    """Return the encoding that a QuantizeLinear or DequantizeLinear of one scale writes out."""
    _, scale, zero_point = (value.const_value for value in node.inputs)
    zero = zero_point.numpy()
    return Encoding(float(scale.numpy()), int(zero), str(zero.dtype))


def generate(
    source: DecoderSource, graphs: dict[int, Run], edge: Boundary | None = None, count: int = 3
) -> np.ndarray:
    """Return the logits of TOKENS, the last `count` of them decoded one at a time."""
    tables = build_decoder(source, CONTEXT).graph.initializers
    cos, sin = (tables[f"rope.{name}"].const_value.numpy() for name in ("cos", "sin"))
    config = source.config
    loop = GenieLoop(graphs, cos, sin, config.kv_heads, config.head_dim, config.layers)
    if edge:
        loop.quantise, loop.dequantise, loop.hidden = edge.quantise, edge.dequantise, -100.0
    prompt, rest = TOKENS[:-count], TOKENS[-count:]
    return np.concatenate([loop.logits(prompt, max(graphs)), loop.logits(rest, min(graphs))])


def feeds_of(model: ir.Model) -> dict[str, np.ndarray]:
    """Return zeros for every input of a static graph."""
    return {
        str(value.name): np.zeros(value.shape.numpy(), value.dtype.numpy())
        for value in model.graph.inputs
    }


def op_types(model: ir.Model) -> Sequence[str]:
    return [node.op_type for node in model.graph]
