"""The peer of `networks`: what a person does by hand with ONNX Runtime, as a worker.

ONNX Runtime's own quantisation for QNN as its documentation has it: preprocess, static calibration,
QDQ with int8 weights per channel (of norms uint8, or HTP refuses them); then its QNN provider,
which compiles a context binary with the options that modelc gives it too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize
from onnxruntime.quantization.execution_providers.qnn import (
    get_qnn_qdq_config,
    qnn_preprocess_model,
)
from worker import peak_mb, serve

from modelc.targets.snapdragon.chipsets import find_chipset
from modelc.targets.snapdragon.compile import CompileOptions, provider_options
from modelc.targets.snapdragon.provider import open_session

ACTIVATIONS: Final = {"w8a8": QuantType.QUInt8, "w8a16": QuantType.QUInt16}
QUANTISED: Final = "quantised.onnx"
CONTEXT: Final = "context"
WRAPPER: Final = "network.onnx"

Feed = dict[str, np.ndarray]


def quantise(
    model: str, folder: str, target: str, data: str, samples: int, bits: str
) -> dict[str, Any]:
    """Write quantised.onnx into the folder, its weights beside it."""
    source, prepared = Path(model), Path(folder, "prepared.onnx")
    if qnn_preprocess_model(source, prepared, save_as_external_data=True):
        source = prepared
    settings = get_qnn_qdq_config(
        source,
        _Reader(_feeds(str(source), data, samples)),
        activation_type=ACTIVATIONS[bits],
        weight_type=QuantType.QInt8,
        per_channel=True,
        init_overrides=_norms(source),
    )
    settings.use_external_data_format = True
    quantize(source, Path(folder, QUANTISED), settings)
    return {}


def compile(model: str, folder: str, target: str) -> dict[str, Any]:
    """Compile the quantised graph into a context binary."""
    context = Path(folder, CONTEXT)
    context.mkdir()
    entries = {
        "ep.context_enable": "1",
        "ep.context_embed_mode": "0",
        "ep.context_file_path": str(context / WRAPPER),
    }
    options = provider_options(find_chipset(target), CompileOptions())
    open_session(Path(folder, QUANTISED), options=options, entries=entries)
    size = sum(path.stat().st_size for path in context.glob("*.bin"))
    return {"mb": size / 2**20}


def simulate(model: str, folder: str, target: str, data: str, output: str) -> dict[str, Any]:
    """Run what was compiled in the HTP simulator; say which .npz holds `states`, one output, and
    how long it took to open it and run the first feed."""
    feeds = list(_feeds(model, data, None))
    start = time.perf_counter()
    # Its conversions at the edge are the CPU's.
    entries = {"session.disable_cpu_ep_fallback": "0"}
    context = Path(folder, CONTEXT, WRAPPER)
    session = open_session(context, options={}, entries=entries)
    made = [session.run([output], feeds[0])[0]]
    seconds = time.perf_counter() - start
    made += [session.run([output], feed)[0] for feed in feeds[1:]]
    path = Path(folder, "states.npz")
    np.savez(path, states=np.stack(made))
    return {"states": str(path), "proof_seconds": seconds}


def peak() -> dict[str, Any]:
    return {"mb": peak_mb()}


def _norms(model: Path) -> dict[str, list[dict[str, Any]]]:
    """Return that the weights of norms are uint8: HTP refuses them as int8."""
    nodes = onnx.load(model, load_external_data=False).graph.node
    names = [node.input[1] for node in nodes if node.op_type == "LayerNormalization"]
    return {name: [{"quant_type": QuantType.QUInt8}] for name in names}


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # the package has no types
    def __init__(self, feeds: Iterator[Feed]) -> None:
        self._feeds = feeds

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)


def _feeds(model: str, data: str, samples: int | None) -> Iterator[Feed]:
    """Yield the samples of a .npz, of the inputs that the model has."""
    names = [value.name for value in ort.InferenceSession(model).get_inputs()]
    with np.load(data) as saved:
        arrays = {name: saved[name] for name in names}
    for index in range(min(len(array) for array in arrays.values()))[:samples]:
        yield {name: array[index] for name, array in arrays.items()}


if __name__ == "__main__":
    serve({f.__name__: f for f in (quantise, compile, simulate, peak)})
