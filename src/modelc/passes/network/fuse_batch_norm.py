"""Batch normalisation at inference: a scale and a shift for each channel, in the weights before
it if there are any, else on their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from modelc.ir.legality import Stage
from modelc.passes.base import Pass
from modelc.passes.network.linear import Affine, bias_of, scaled_linear
from modelc.passes.network.read import (
    constant_of,
    dtype_of,
    has_sizes,
    integer,
    is_op,
    is_used,
    needed,
    only_reader,
    real,
    sizes_of,
    tensor_of,
)
from modelc.passes.network.remove_dead_code import sweep
from modelc.passes.network.sketch import Names, Sketch


@dataclass(frozen=True)
class FuseBatchNorm(Pass):
    """BatchNormalization goes into the Conv, ConvTranspose or Gemm before it, if nobody else reads
    what that makes; otherwise it becomes Mul and Add. Its numbers must be constant, and it must
    not be in training mode."""

    name: ClassVar[str] = "fuse_batch_norm"
    before: ClassVar[Stage] = "network"
    after: ClassVar[Stage] = "network"

    def apply(self, model: ir.Model) -> ir.Model:
        names = Names(model.graph)
        for node in list(model.graph):
            if is_op(node, "BatchNormalization") and has_sizes(node):
                affine = _affine(node)
                if affine is not None:
                    _apply(model.graph, node, affine, names)
        sweep(model)
        return model


def _affine(node: ir.Node) -> Affine | None:
    numbers = [constant_of(value) for value in node.inputs[1:5]]
    training = integer(node, "training_mode", 0) or any(is_used(node, i) for i in range(1, 5))
    if training or any(array is None for array in numbers):
        return None
    scale, bias, mean, variance = (np.asarray(array, np.float64) for array in numbers)
    factor = scale / np.sqrt(variance + real(node, "epsilon", 1e-5))
    return Affine(factor, bias - mean * factor)


def _apply(graph: ir.Graph, node: ir.Node, affine: Affine, names: Names) -> None:
    value = needed(node)
    linear, sketch = value.producer(), Sketch(graph, node, names)
    if (
        linear is not None
        and is_op(linear, "Conv", "ConvTranspose", "Gemm")
        and only_reader(value) is node
        and tensor_of(linear.inputs[1]) is not None
        and bias_of(linear) is not None
    ):
        sketch.finish([scaled_linear(sketch, linear, affine)], [linear])
        return
    column = (-1, *[1] * (len(sizes_of(value)) - 2))
    dtype = dtype_of(value).numpy()
    factor = sketch.constant(affine.factor.reshape(column).astype(dtype), "factor")
    shift = sketch.constant(affine.shift.reshape(column).astype(dtype), "shift")
    sketch.finish([sketch.add(sketch.mul(value, factor), shift)])
