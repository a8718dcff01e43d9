"""ONNX Runtime CPU sessions that read weights in place, neither written to disk nor copied."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

import numpy as np
import onnx_ir as ir

from modelc.errors import BadInput, Where
from modelc.ir.emit import dims_of
from modelc.ir.stored import release
from modelc.ir.weights import StoredWeight

WeightObserver = Callable[[str, np.ndarray], None]

INLINE: Final = 64  # elements; shape inference wants to see small constants


class Session:
    """A graph on ONNX Runtime CPU; its stored weights are decoded to float32 when it opens.

    Nothing is folded or fused, so every tensor is what the graph says; only the products with
    weights read these as they lie in the file, [out, in]. `threads` 0 is ONNX Runtime's choice.

    Args:
        look: called with every weight, in this form.

    Raises:
        BadInput: a weight holds NaN or infinite values.
    """

    def __init__(
        self, model: ir.Model, threads: int = 0, look: WeightObserver | None = None
    ) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = False  # a tensor that outlives a session would keep it all
        model = model.clone()
        _multiply_as_stored(model)
        self._weights = _weights_as_inputs(model, threads or os.cpu_count() or 1)
        if look:
            for name, weight in self._weights.items():
                look(name, weight)
        self._session = ort.InferenceSession(
            ir.serde.serialize_model(model).SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
        )
        self._inputs = [argument.name for argument in self._session.get_inputs()]
        self._outputs = [argument.name for argument in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run on those of `feeds` that the graph takes, weights in place of its own among them if
        there are any (matrices as they are stored); return its outputs by name."""
        taken = {
            name: feeds[name] if name in feeds else self._weights[name] for name in self._inputs
        }
        return dict(zip(self._outputs, self._session.run(self._outputs, taken), strict=True))


def check_tokens(model: ir.Model, token_ids: np.ndarray, last: int) -> None:
    """Check that tokens are in the vocabulary and that `last` positions fit in the context.

    Raises:
        BadInput: they are not, or don't.
    """
    vocab, context = (
        int(dims_of(model.graph.initializers[name])[0])
        for name in ("model.embed_tokens.weight", "rope.cos")
    )
    if not token_ids.size:
        raise BadInput("a sequence without tokens has no logits")
    if token_ids.min() < 0 or token_ids.max() >= vocab:
        raise BadInput(f"a token is not in the vocabulary of {vocab}")
    if last > context:
        raise BadInput(
            f"{last} tokens are more than the context of {context}",
            hint="give fewer tokens or build for a longer context",
        )


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


def _multiply_as_stored(model: ir.Model) -> None:
    """Make products with transposed weights FusedMatMul with transB: no matrix is turned."""
    for weight in model.graph.initializers.values():
        tensor, uses = weight.const_value, weight.uses()
        if not isinstance(tensor, StoredWeight) or not tensor.source.transposed:
            continue
        if any(use.node.op_type != "MatMul" or use.idx != 1 for use in uses):
            continue
        as_stored = StoredWeight(replace(tensor.source, transposed=False), tensor.name)
        weight.const_value, weight.shape = as_stored, ir.Shape(as_stored.shape.numpy())
        for use in uses:
            use.node.op_type, use.node.domain = "FusedMatMul", "com.microsoft"
            use.node.attributes["transB"] = ir.AttrInt64("transB", 1)
    model.opset_imports["com.microsoft"] = 1


def _weights_as_inputs(model: ir.Model, threads: int) -> dict[str, np.ndarray]:
    """Turn all but small initialisers into inputs and return their arrays: what is fed, ONNX
    Runtime reads in place, where it would copy an initialiser."""
    given = {
        name: value.const_value
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
    }
    large = {name: tensor for name, tensor in given.items() if tensor.size > INLINE}
    for name in given.keys() - large.keys():
        _decoded(name, given[name])  # only to check it
    for name in large:
        value = model.graph.initializers.pop(name)
        value.const_value = None
        model.graph.inputs.append(value)
    with ThreadPoolExecutor(threads) as pool:
        return dict(zip(large, pool.map(_decoded, large, large.values()), strict=True))


def _decoded(name: str, tensor: ir.TensorProtocol) -> np.ndarray:
    array = tensor.numpy()
    if array.dtype == np.float32:
        _check_finite(name, tensor, array)
    if isinstance(tensor, StoredWeight):
        release(tensor.source)
    return array


def _check_finite(name: str, tensor: ir.TensorProtocol, array: np.ndarray) -> None:
    with np.errstate(all="ignore"):
        if np.isfinite(array.sum()):  # no mask of the array's size is made
            return
    if not np.isfinite(array).all():
        path = str(tensor.source.path) if isinstance(tensor, StoredWeight) else ""
        raise BadInput(
            "the weight holds NaN or infinite values",
            where=Where(module=name, path=path),
            hint="the source's file is damaged, or was written by a training that diverged",
        )
