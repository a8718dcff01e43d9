"""ONNX Runtime's own quantisers under test: 4-bit weights in blocks, and static QDQ graphs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization import matmul_nbits_quantizer as nbits
from quality_text import Text
from worker import serve

BLOCK: Final = 32
# Bits of a weight of the layers, the head and the embedding, with the scales of blocks (float32)
# and their zeros.
BLOCKS_BITS: Final = (4 + (32 + 4) / BLOCK, 8 + 32 / BLOCK, 32)
SYMMETRIC_BITS: Final = (4 + 32 / BLOCK, 8 + 32 / BLOCK, 32)
STATIC_BITS: Final = (8, 8, 8)


class Rows(CalibrationDataReader):
    """Calibration sequences, one in a call."""

    def __init__(self, rows: np.ndarray) -> None:
        self._rows: Iterator[np.ndarray] = iter(rows)

    def get_next(self) -> dict[str, np.ndarray] | None:
        row = next(self._rows, None)
        return None if row is None else {"input_ids": row[None]}


def blocks(
    make_config: Callable[[Text], nbits.WeightOnlyQuantConfig], symmetric: bool
) -> Callable[[str, Path, Text], None]:
    """Return a quantiser: layers by a configuration, the head in 8 bits."""

    def quantise(model: str, target: Path, text: Text) -> None:
        graph = onnx.load(model)
        head = next(node.name for node in graph.graph.node if node.output[0] == "logits")
        layers = nbits.MatMulNBitsQuantizer(
            graph,
            block_size=BLOCK,
            is_symmetric=symmetric,
            nodes_to_exclude=[head],
            algo_config=make_config(text),
        )
        layers.process()
        rest = nbits.MatMulNBitsQuantizer(
            layers.model.model,
            algo_config=nbits.DefaultWeightOnlyQuantConfig(BLOCK, is_symmetric=True, bits=8),
        )
        rest.process()
        rest.model.save_model_to_file(str(target))

    return quantise


def static(activations: QuantType) -> Callable[[str, Path, Text], None]:
    """Return a quantiser: int8 weights per channel, calibrated activations."""

    def quantise(model: str, target: Path, text: Text) -> None:
        quantize_static(
            model,
            target,
            Rows(text.calibration),
            per_channel=True,
            activation_type=activations,
            weight_type=QuantType.QInt8,
            extra_options={"UseQDQContribOps": True},
        )

    return quantise


ALGORITHMS: Final[Mapping[str, tuple[Callable[[str, Path, Text], None], tuple[float, ...]]]] = {
    "MatMulNBits b32 RTN": (
        blocks(lambda text: nbits.DefaultWeightOnlyQuantConfig(BLOCK, is_symmetric=True), True),
        SYMMETRIC_BITS,
    ),
    "MatMulNBits b32 HQQ": (
        blocks(lambda text: nbits.HQQWeightOnlyQuantConfig(BLOCK), False),
        BLOCKS_BITS,
    ),
    "MatMulNBits b32 k_quant": (
        blocks(lambda text: nbits.KQuantWeightOnlyQuantConfig(), False),
        BLOCKS_BITS,
    ),
    "MatMulNBits b32 GPTQ": (
        blocks(
            lambda text: nbits.GPTQWeightOnlyQuantConfig(
                [{"input_ids": row[None]} for row in text.calibration], block_size=BLOCK
            ),
            False,
        ),
        BLOCKS_BITS,
    ),
    "QDQ static w8a16": (static(QuantType.QUInt16), STATIC_BITS),
    "QDQ static w8a8": (static(QuantType.QUInt8), STATIC_BITS),
}


def evaluate(model: str, text: str, algorithm: str, threads: int, logits: str) -> dict[str, Any]:
    """Quantise and run; the float32 logits of the scored tokens go to the file `logits`."""
    began = time.perf_counter()
    read = Text.load(text)
    quantise, bits = ALGORITHMS[algorithm]
    target = Path(model).with_name("quantised.onnx")
    quantise(model, target, read)
    seconds = time.perf_counter() - began
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(target, options, providers=["CPUExecutionProvider"])
    np.save(logits, read.logits(lambda row: session.run(None, {"input_ids": row[None]})[0][0]))
    return {"seconds": seconds, "bits": bits}


if __name__ == "__main__":
    serve(
        {
            "version": lambda: {"version": onnxruntime.__version__},
            "evaluate": evaluate,
        }
    )
