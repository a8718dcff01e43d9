"""Weights are safetensors that its own library reads."""

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx_ir as ir
import torch
from safetensors.torch import load_file

from modelc.targets.cuda.weights_file import write_weights


def test_the_library_reads_what_was_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 5)).astype(np.float32)
    tensors = {
        "bf16": ir.Tensor(values.astype(ml_dtypes.bfloat16)),
        "fp16": ir.Tensor(values.astype(np.float16)),
        "fp32": ir.Tensor(values),
        "e4m3": ir.Tensor(values.astype(ml_dtypes.float8_e4m3fn)),
        "u8": ir.Tensor(rng.integers(0, 255, 7, dtype=np.uint8)),
        "i32": ir.Tensor(rng.integers(-9, 9, (2, 2), dtype=np.int32)),
    }
    write_weights(tensors, tmp_path / "w.safetensors")
    read = load_file(tmp_path / "w.safetensors")
    assert list(read) == sorted(tensors) or set(read) == set(tensors)
    for name, tensor in tensors.items():
        expected = np.ascontiguousarray(tensor.numpy()).view(np.uint8)
        assert np.array_equal(
            read[name].view(torch.uint8).numpy().reshape(-1), expected.reshape(-1)
        )
