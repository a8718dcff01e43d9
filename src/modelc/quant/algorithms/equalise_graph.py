"""Cross-layer equalisation of any ONNX graph, as of convolutional networks (see `equalise`).

Two linear layers are neighbours if nothing but operators with f(s x) = s f(x), s > 0, lies between
them, and nobody else looks. A batch normalisation is in the way: fold it into its layer first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from modelc.quant.algorithms.equalise import equalising_factors
from modelc.quant.algorithms.layer import Floats

LINEAR: Final = frozenset({"Conv", "Gemm", "MatMul"})
_ELEMENTWISE: Final = frozenset({"Identity", "LeakyRelu", "Relu"})
_GLOBAL_POOLS: Final = frozenset({"GlobalAveragePool", "GlobalMaxPool"})
_POOLS: Final = frozenset({"AveragePool", "MaxPool", *_GLOBAL_POOLS})
_SETTLED: Final = 1e-3  # largest factor's distance from 1 at which rounds end


@dataclass(frozen=True)
class Pair:
    """Two neighbouring linear layers, and vectors of numbers that are added to the channels."""

    first: ir.Node
    second: ir.Node
    biases: tuple[ir.Value, ...]

    def __str__(self) -> str:
        return f"{self.first.name} -> {self.second.name}"


def equalise_graph(model: ir.Model, rounds: int = 20) -> tuple[Pair, ...]:
    """Equalise all neighbours of a graph in place, and return them.

    What a layer shares with both of its neighbours needs more than one round to settle.

    Args:
        model: its weights are initialisers in memory.
    """
    pairs = tuple(_pairs(model))
    for _ in range(rounds):
        if max((_equalise(pair) for pair in pairs), default=0.0) < _SETTLED:
            break
    return pairs


def _pairs(model: ir.Model) -> Iterator[Pair]:
    for node in model.graph:
        if _is_linear(node) and (pair := _pair_from(node)):
            yield pair


def _pair_from(first: ir.Node) -> Pair | None:
    """Return a layer and the one that reads it, if there is just one and nothing is in the way."""
    channels = _grouped(first).shape[0] * _grouped(first).shape[1]
    biases = [value for value in first.inputs[2:3] if value is not None]
    value, images, pooled = first.outputs[0], first.op_type == "Conv", False
    while not value.is_graph_output() and len(value.uses()) == 1:
        ((node, index),) = value.uses()
        if _is_linear(node) and index == 0:
            fits = images == (node.op_type == "Conv")
            owned = all(_own(bias, channels) for bias in biases)
            return Pair(first, node, tuple(biases)) if fits and owned else None
        if node.op_type == "Add" and not images:
            biases.append(node.inputs[1 - index])  # type: ignore[arg-type]  # Add has both
        elif images and pooled and node.op_type == "Flatten" and _number(node, "axis", 1) == 1:
            images = False  # one number for each channel is left
        elif node.op_type not in _ELEMENTWISE and not (images and node.op_type in _POOLS):
            return None
        pooled = node.op_type in _GLOBAL_POOLS or (pooled and node.op_type in _ELEMENTWISE)
        value = node.outputs[0]
    return None


def _is_linear(node: ir.Node) -> bool:
    """True for a layer whose matrix is an initialiser that nobody else reads."""
    if node.op_type not in LINEAR or node.domain not in ("", "ai.onnx"):
        return False
    weight = node.inputs[1]
    if weight is None or weight.const_value is None or not weight.is_initializer():
        return False
    plain = node.op_type == "Conv" or len(weight.const_value.shape) == 2
    return plain and len(weight.uses()) == 1 and not _number(node, "transA", 0)


def _own(bias: ir.Value, channels: int) -> bool:
    """True for a vector that is an initialiser and that nobody else reads."""
    if bias.const_value is None or not bias.is_initializer() or len(bias.uses()) != 1:
        return False
    return bias.const_value.shape.numpy() == (channels,)


def _equalise(pair: Pair) -> float:
    """Make both ranges of each channel the same; return how far the factors are from 1."""
    first, second = _grouped(pair.first), _grouped(pair.second)
    made = np.abs(first).max(axis=(2, 3)).reshape(-1)
    read = np.abs(second).max(axis=(1, 3)).reshape(-1)
    factors = equalising_factors(made, read)
    _replace(pair.first, first / factors.reshape(*first.shape[:2], 1, 1))
    _replace(pair.second, second * factors.reshape(second.shape[0], 1, -1, 1))
    for bias in pair.biases:
        _set(bias, _array(bias) / factors)
    return float(np.abs(factors - 1).max(initial=0))


def _grouped(node: ir.Node) -> Floats:
    """Return a layer's weights as [groups, outputs, inputs, positions], both of a group."""
    weight = _array(node.inputs[1])
    if node.op_type == "Conv":
        groups = _number(node, "group", 1)
        return weight.reshape(groups, len(weight) // groups, weight.shape[1], -1)
    return (weight if _number(node, "transB", 0) else weight.T)[None, :, :, None]


def _replace(node: ir.Node, grouped: Floats) -> None:
    """Give a layer other weights, as `_grouped` returns them."""
    weight = node.inputs[1]
    assert weight is not None and weight.const_value is not None
    turned = node.op_type != "Conv" and not _number(node, "transB", 0)
    matrix = grouped[0, :, :, 0].T if turned else grouped
    _set(weight, matrix.reshape(weight.const_value.shape.numpy()))


def _array(value: ir.Value | None) -> Floats:
    assert value is not None and value.const_value is not None
    return value.const_value.numpy().astype(np.float32)


def _set(value: ir.Value, array: Floats) -> None:
    assert value.const_value is not None
    dtype = value.const_value.dtype.numpy()
    value.const_value = ir.Tensor(np.ascontiguousarray(array, dtype), name=value.name)


def _number(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()
