"""ONNX Runtime CPU sessions whose weights are handed over in memory, never written to disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx_ir as ir

from modelc.ir.serial import is_outside, to_proto

if TYPE_CHECKING:
    import onnxruntime

INLINE: Final = 64  # elements; shape inference wants to see small constants


class Session:
    """A graph on ONNX Runtime CPU; its stored weights are decoded to float32 when it opens.

    Nothing is folded or fused, so every tensor is what the graph says. `threads` 0 is ONNX
    Runtime's own choice.
    """

    def __init__(self, model: ir.Model, threads: int = 0) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # Prepacking would copy every matrix into a second layout.
        options.add_session_config_entry("session.disable_prepacking", "1")
        proto = to_proto(model, lambda tensor: tensor.size > INLINE)
        names = [tensor.name for tensor in proto.graph.initializer if is_outside(tensor)]
        # ONNX Runtime reads the arrays in place and doesn't keep them alive: this object must.
        self._weights = [_ort_value(model.graph.initializers[name]) for name in names]
        options.add_external_initializers(names, self._weights)
        self._session = ort.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = [argument.name for argument in self._session.get_inputs()]
        self._outputs = [argument.name for argument in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run on those of `feeds` that the graph takes; return its outputs by name."""
        taken = {name: feeds[name] for name in self._inputs}
        return dict(zip(self._outputs, self._session.run(self._outputs, taken), strict=True))


def empty_caches(model: ir.Model, batch: int) -> dict[str, np.ndarray]:
    """Return every `past_key_values.*` input, float32 [batch, kv_heads, 0, head_dim]."""
    caches = {}
    for value in model.graph.inputs:
        if str(value.name).startswith("past_key_values."):
            assert value.shape is not None
            _, heads, _, width = value.shape
            assert isinstance(heads, int) and isinstance(width, int)
            caches[str(value.name)] = np.zeros((batch, heads, 0, width), np.float32)
    return caches


def _ort_value(value: ir.Value) -> onnxruntime.OrtValue:
    import onnxruntime as ort

    assert value.const_value is not None
    return ort.OrtValue.ortvalue_from_numpy(value.const_value.numpy())
