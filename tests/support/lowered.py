"""Runs a graph of the cpu stage, whichever of its passes were run, with caches in place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from modelc.ir.write import write_model


class Lowered:
    """Logits of every row, chunk by chunk, batch 1. int8 activations are off if not `int8`."""

    def __init__(self, model: ir.Model, folder: Path, *, int8: bool = False) -> None:
        model = model.clone()
        for node in model.graph:
            if node.op_type == "MatMulNBits" and not int8:
                node.attributes["accuracy_level"] = ir.AttrInt64("accuracy_level", 1)
        path = folder / f"{id(self)}.onnx"
        write_model(model, path)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._inputs = {argument.name: argument for argument in self.session.get_inputs()}
        self._caches = {
            name: ort.OrtValue.ortvalue_from_numpy(np.zeros((1, *argument.shape[1:]), "f"))
            for name, argument in self._inputs.items()
            if name.startswith("past_key_values.")
        }
        self._length = 0

    def step(self, token_ids: Sequence[int], rows: Sequence[int] | None = None) -> np.ndarray:
        """Append tokens; return the logits of `rows` of them (None: of all)."""
        count = len(token_ids)
        self._length += count
        feeds = {
            "input_ids": np.array([token_ids], np.int64),
            "seqlens_k": np.array([self._length - 1], np.int32),
            "total_sequence_length": np.array(self._length, np.int32),
            "logits_rows": np.array(range(count) if rows is None else rows, np.int64),
        }
        binding = self.session.io_binding()
        for name, array in feeds.items():
            if name in self._inputs:
                binding.bind_cpu_input(name, array)
        binding.bind_output("logits")
        for name, value in self._caches.items():
            binding.bind_ortvalue_input(name, value)
            binding.bind_ortvalue_output(name.replace("past_key_values", "present"), value)
        self.session.run_with_iobinding(binding)
        logits: np.ndarray = binding.get_outputs()[0].numpy()[0]
        return logits
