"""Writes weights as safetensors, one after the other, so that memory holds no more than one.

The library that reads them takes all tensors at once to write them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import onnx_ir as ir

from modelc.ir.stored import release
from modelc.ir.weights import StoredWeight

NAMES: Final[Mapping[ir.DataType, tuple[str, str]]] = {
    ir.DataType.BFLOAT16: ("bf16", "BF16"),
    ir.DataType.FLOAT16: ("fp16", "F16"),
    ir.DataType.FLOAT: ("fp32", "F32"),
    ir.DataType.INT32: ("i32", "I32"),
    ir.DataType.UINT8: ("u8", "U8"),
    ir.DataType.FLOAT8E4M3FN: ("e4m3", "F8_E4M3"),
}
"""What a launch plan and safetensors call a tensor's type."""

_ALIGNMENT: Final = 256


def write_weights(tensors: Mapping[str, ir.TensorProtocol], path: Path) -> None:
    """Write tensors in their order; the file may not exist."""
    header: dict[str, object] = {}
    end = 0
    for name, tensor in tensors.items():
        # The format allows no holes, so what follows must be aligned by itself.
        header[name] = {
            "dtype": NAMES[tensor.dtype][1],
            "shape": [int(side) for side in tensor.shape.numpy()],
            "data_offsets": [end, end + tensor.nbytes],
        }
        end += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    with path.open("xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            array = np.ascontiguousarray(tensor.numpy())
            assert array.nbytes == tensor.nbytes
            file.write(array.reshape(-1).view(np.uint8).data)
            if isinstance(tensor, StoredWeight):
                release(tensor.source)
