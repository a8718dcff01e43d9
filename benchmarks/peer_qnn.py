"""The peer of `snapdragon_compile`: what a person does by hand with ONNX Runtime, as a worker.

ONNX Runtime's own quantisation for QNN (uint16 activations, int8 weights per channel) of static
float graphs, one AR length after the other, on inputs made of the calibration text; then its QNN
provider, which compiles all graphs into one context binary.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize
from onnxruntime.quantization.execution_providers.qnn import get_qnn_qdq_config
from worker import peak_mb, serve

from modelc.decoder.config import load_config
from modelc.ir import genie
from modelc.targets.snapdragon.binary import Tensor
from modelc.targets.snapdragon.chipsets import find_chipset
from modelc.targets.snapdragon.compile import CompileOptions, provider_options
from modelc.targets.snapdragon.decode_loop import Decoder, Part
from modelc.targets.snapdragon.graph_names import parse
from modelc.targets.snapdragon.provider import open_session
from modelc.targets.snapdragon.rotary import rotary_of

# Hides a position in any softmax; Genie's -1000 would take the mask all its 16 bits.
MASKED = -100.0
GENERATED = 16  # tokens at the end of each sequence that are read one by one
NUMPY = {"tensor(float)": "float32", "tensor(int32)": "int32"}

Feed = Mapping[str, np.ndarray]
_kept: list[Any] = []


def quantise(graphs: Sequence[str], config: str, sequences: Sequence[Sequence[int]]) -> Feed:
    """Write NAME.qdq.onnx beside each float graph NAME.onnx."""
    start = time.perf_counter()
    for graph in graphs:
        ar = parse(Path(graph).stem).ar
        feeds = _calibration_feeds(graphs, config, sequences, ar)
        settings = get_qnn_qdq_config(
            graph,
            _Reader(feeds),
            activation_type=QuantType.QUInt16,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )
        quantize(graph, str(Path(graph).with_suffix(".qdq.onnx")), settings)
    return {"seconds": time.perf_counter() - start}


def compile(graphs: Sequence[str], target: str, folder: str) -> dict[str, Any]:
    """Compile quantised graphs into one binary with shared weights, as modelc sets the compiler."""
    start = time.perf_counter()
    options = provider_options(find_chipset(target), CompileOptions())
    options["enable_htp_weight_sharing"] = "1"
    entries = {"ep.context_enable": "1", "ep.context_embed_mode": "0", "ep.share_ep_contexts": "1"}
    for graph in graphs:
        name = parse(Path(graph).stem).name
        entries["ep.context_file_path"] = str(Path(folder, f"{name}_ctx.onnx"))
        entries["ep.stop_share_ep_contexts"] = str(int(graph == graphs[-1]))
        session = open_session(Path(graph), registration=name, options=options, entries=entries)
        _kept.append(session)  # the weights are shared only while every session is alive
    size = sum(path.stat().st_size for path in Path(folder).glob("*.bin"))
    return {"seconds": time.perf_counter() - start, "mb": size / 2**20}


def compare(
    graphs: Sequence[str], config: str, target: str, reference: str, simulator: bool
) -> dict[str, Any]:
    """Return how far the logits of quantised graphs, in the simulator or on the CPU, are from the
    float ones."""
    options = provider_options(find_chipset(target), CompileOptions())
    sessions: dict[str, Any] = {}
    for graph in graphs:
        if simulator:
            registration = f"simulator.{parse(Path(graph).stem).name}"
            sessions[graph] = open_session(Path(graph), registration=registration, options=options)
        else:
            sessions[graph] = ort.InferenceSession(graph)
    with np.load(reference) as wanted:
        tokens, logits = wanted["token_ids"].tolist(), wanted["logits"]
    found = np.concatenate(list(_decoder(sessions, config).read(tokens)))
    noise = np.square(logits - found, dtype=np.float64).sum()
    sqnr = 10 * np.log10(np.square(logits, dtype=np.float64).sum() / noise)
    top1 = (logits.argmax(-1) == found.argmax(-1)).mean()
    return {"sqnr_db": float(sqnr), "top1": float(top1), "tokens": len(tokens)}


def peak() -> dict[str, Any]:
    return {"mb": peak_mb()}


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # the package has no types
    def __init__(self, feeds: Iterator[Feed]) -> None:
        self._feeds = feeds

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)


def _calibration_feeds(
    graphs: Sequence[str], config: str, sequences: Sequence[Sequence[int]], ar: int
) -> Iterator[Feed]:
    """Yield what the graph of one AR length is fed when the float graphs read the sequences."""
    sessions = {graph: ort.InferenceSession(graph) for graph in graphs}
    fed: list[tuple[int, Feed]] = []
    for tokens in sequences:
        decoder = _decoder(sessions, config, fed)
        cut = max(len(tokens) - GENERATED, 0)
        for rest in (tokens[:cut], *([token] for token in tokens[cut:])):
            for _ in decoder.read(rest):
                yield from (feed for length, feed in fed if length == ar)
                fed.clear()


def _decoder(
    sessions: Mapping[str, Any], config: str, fed: list[tuple[int, Feed]] | None = None
) -> Decoder:
    parts = {}
    for graph, session in sessions.items():
        key = parse(Path(graph).stem)
        parts[key.ar, key.context_length] = [_part(session, key.ar, fed)]
        length = key.context_length
    return Decoder(parts, rotary_of(load_config(Path(config)), length))


def _part(session: Any, ar: int, fed: list[tuple[int, Feed]] | None) -> Part:
    def run(feed: Feed) -> Feed:
        feed = {**feed, genie.MASK: np.maximum(feed[genie.MASK], np.float32(MASKED))}
        if fed is not None:
            fed.append((ar, feed))
        return dict(zip(names, session.run(names, dict(feed)), strict=True))

    inputs, outputs = (
        tuple(Tensor(value.name, tuple(value.shape), NUMPY[value.type]) for value in values)
        for values in (session.get_inputs(), session.get_outputs())
    )
    names = [tensor.name for tensor in outputs]
    return Part(inputs, outputs, run)


if __name__ == "__main__":
    serve({f.__name__: f for f in (quantise, compile, compare, peak)})
