"""Tensors of more than five axes, which HTP doesn't take: neighbouring axes that an operator treats
alike become one.

What is left between are Reshapes from six axes to five and back, which MergeMoves joins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import onnx_ir as ir

from modelc.ir.legality import Stage
from modelc.passes.base import Pass
from modelc.passes.network.decompose.reductions import axes_of
from modelc.passes.network.read import (
    constant_of,
    dtype_of,
    has_sizes,
    input_of,
    integer,
    integers,
    needed,
    sizes_of,
)
from modelc.passes.network.remove_dead_code import sweep
from modelc.passes.network.sketch import Names, Sketch

MOST_AXES: Final = 5


@dataclass(frozen=True)
class ReduceRank(Pass):
    """Elementwise operators, moves, reductions, softmax and products of more than five axes are
    computed on fewer. Inputs and outputs of the graph keep theirs."""

    name: ClassVar[str] = "reduce_rank"
    before: ClassVar[Stage] = "network"
    after: ClassVar[Stage] = "network"

    def apply(self, model: ir.Model) -> ir.Model:
        names = Names(model.graph)
        for node in list(model.graph):
            rewrite = _REWRITES.get(node.op_type) if node.domain == "" else None
            if rewrite is None or not _is_deep(node):
                continue
            sketch = Sketch(model.graph, node, names)
            results = rewrite(sketch, node)
            if results is None:
                sketch.abandon()
            else:
                sketch.finish(results)
        sweep(model)
        return model


def _is_deep(node: ir.Node) -> bool:
    values = [*(v for v in node.inputs if v is not None), *(v for v in node.outputs if v.name)]
    return has_sizes(node) and any(len(sizes_of(value)) > MOST_AXES for value in values)


def merged(keys: Sequence[Hashable], sizes: Sequence[int]) -> list[list[int]]:
    """Group neighbouring axes of equal keys; one of size 1 goes with whatever is beside it."""
    groups: list[list[int]] = []
    key: Hashable = None
    for axis, (own, size) in enumerate(zip(keys, sizes, strict=True)):
        if groups and (size == 1 or own == key or key is None):
            groups[-1].append(axis)
            key = own if size != 1 else key
        else:
            groups.append([axis])
            key = own if size != 1 else None
    return groups


def _folded(s: Sketch, value: ir.Value, groups: Sequence[Sequence[int]]) -> ir.Value:
    """Return a value whose axes of each group are one; missing first axes count as 1."""
    rank = sum(len(group) for group in groups)
    sizes = (*[1] * (rank - len(sizes_of(value))), *sizes_of(value))
    return s.reshape(value, [math.prod(sizes[axis] for axis in group) for group in groups])


def _elementwise(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    sizes = sizes_of(node.outputs[0])
    operands = [value for value in node.inputs if value is not None]
    full = [(*[1] * (len(sizes) - len(sizes_of(v))), *sizes_of(v)) for v in operands]
    groups = merged(list(zip(*([n == 1 for n in f] for f in full), strict=True)), sizes)
    if len(groups) > MOST_AXES:
        return None
    inputs = [
        value if value is None or not sizes_of(value) else _folded(s, value, groups)
        for value in node.inputs
    ]
    attributes = {name: a.value for name, a in node.attributes.items()}
    result = s.op(
        node.op_type,
        inputs,
        [math.prod(sizes[axis] for axis in group) for group in groups],
        dtype=dtype_of(node.outputs[0]),
        **attributes,
    )
    return [s.reshape(result, sizes)]


def _transpose(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    x = needed(node)
    sizes = sizes_of(x)
    perm = integers(node, "perm", range(len(sizes))[::-1])
    moved = [axis for axis in perm if sizes[axis] != 1]
    groups: list[list[int]] = []
    order = sorted(moved)
    for axis in moved:
        together = bool(groups) and order.index(axis) == order.index(groups[-1][-1]) + 1
        if together:
            groups[-1].append(axis)
        else:
            groups.append([axis])
    if len(groups) > MOST_AXES:
        return None
    source = sorted(groups)
    folded = s.reshape(x, [math.prod(sizes[axis] for axis in group) for group in source])
    turned = s.transpose(folded, [source.index(group) for group in groups])
    return [s.reshape(turned, sizes_of(node.outputs[0]))]


def _around(s: Sketch, value: ir.Value, axis: int) -> ir.Value:
    """Return a value as [before, axis, after]."""
    sizes = sizes_of(value)
    return s.reshape(value, [math.prod(sizes[:axis]), sizes[axis], math.prod(sizes[axis + 1 :])])


def _axis(node: ir.Node, default: int) -> int:
    return integer(node, "axis", default) % len(sizes_of(needed(node)))


def _softmax(s: Sketch, node: ir.Node) -> list[ir.Value]:
    x = needed(node)
    sizes, axis = sizes_of(x), _axis(node, -1)
    last = math.prod(sizes[axis + 1 :]) == 1
    folded = s.reshape(x, [math.prod(sizes[:axis]), sizes[axis]]) if last else _around(s, x, axis)
    result = s.op(node.op_type, [folded], axis=1)
    return [s.reshape(result, sizes_of(x))]


def _concat(s: Sketch, node: ir.Node) -> list[ir.Value]:
    axis = _axis(node, 0)
    parts = [_around(s, needed(node, index), axis) for index in range(len(node.inputs))]
    return [s.reshape(s.concat(parts, 1), sizes_of(node.outputs[0]))]


def _split(s: Sketch, node: ir.Node) -> list[ir.Value]:
    x, axis = needed(node), _axis(node, 0)
    folded = _around(s, x, axis)
    results, start = [], 0
    for output in node.outputs:
        stop = start + sizes_of(output)[axis]
        results.append(s.reshape(s.slice(folded, 1, start, stop), sizes_of(output)))
        start = stop
    return results


def _slice(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    x = needed(node)
    arrays = [constant_of(input_of(node, index)) for index in range(1, 5)]
    starts, ends, axes, steps = arrays
    given = [input_of(node, index) is not None for index in range(1, 5)]
    if any(g and a is None for g, a in zip(given, arrays, strict=True)) or starts is None:
        return None
    assert ends is not None
    for index in range(len(starts)):
        axis = int(axes[index]) if axes is not None else index
        step = int(steps[index]) if steps is not None else 1
        axis %= len(sizes_of(x))
        size = sizes_of(x)[axis]
        start, stop, step = slice(int(starts[index]), int(ends[index]), step).indices(size)
        if step < 0:
            return None
        sizes = list(sizes_of(x))
        sizes[axis] = len(range(start, stop, step))
        x = s.reshape(s.slice(_around(s, x, axis), 1, start, stop, step), sizes)
    return [x]


def _gather(s: Sketch, node: ir.Node) -> list[ir.Value]:
    x, indices = needed(node), needed(node, 1)
    count = math.prod(sizes_of(indices))
    folded = _around(s, x, _axis(node, 0))
    before, _, after = sizes_of(folded)
    flat = s.reshape(indices, [count])
    result = s.op("Gather", [folded, flat], [before, count, after], axis=1)
    return [s.reshape(result, sizes_of(node.outputs[0]))]


def _reduce(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    x, axes = needed(node), axes_of(node)
    if axes is None:
        return None
    groups = merged([axis in axes for axis in range(len(sizes_of(x)))], sizes_of(x))
    if len(groups) > MOST_AXES:
        return None
    sizes = sizes_of(x)
    # Axes of size 1 need no reduction, in whatever group they are.
    wide = {axis for axis in axes if sizes[axis] != 1}
    reduced = [index for index, group in enumerate(groups) if wide & set(group)]
    if not reduced:
        same = s.op("Abs", [x]) if node.op_type == "ReduceL2" else x
        return [s.reshape(same, sizes_of(node.outputs[0]))]
    result = s.reduce(node.op_type, _folded(s, x, groups), reduced)
    return [s.reshape(result, sizes_of(node.outputs[0]))]


def _matmul(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    a, b = needed(node), needed(node, 1)
    if min(len(sizes_of(a)), len(sizes_of(b))) < 2:
        return None
    sizes = sizes_of(node.outputs[0])
    batch = len(sizes) - 2
    full = [(*[1] * (len(sizes) - len(sizes_of(v))), *sizes_of(v)) for v in (a, b)]
    keys = [(full[0][i] == 1, full[1][i] == 1) for i in range(batch)]
    groups = merged(keys, sizes[:batch])
    if len(groups) + 2 > MOST_AXES:
        return None
    groups = [*groups, [batch], [batch + 1]]
    product = s.matmul(_folded(s, a, groups), _folded(s, b, groups))
    return [s.reshape(product, sizes)]


def _expand(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    x, sizes = needed(node), sizes_of(node.outputs[0])
    full = (*[1] * (len(sizes) - len(sizes_of(x))), *sizes_of(x))
    groups = merged([own != size for own, size in zip(full, sizes, strict=True)], sizes)
    if len(groups) > MOST_AXES:
        return None
    wide = [math.prod(sizes[axis] for axis in group) for group in groups]
    folded = _folded(s, x, groups)
    return [s.reshape(s.op("Expand", [folded, s.integers(wide, "sizes")], wide), sizes)]


_ELEMENTWISE: Final = (
    "Abs", "Add", "And", "Atan", "Cast", "Ceil", "Cos", "Div", "Elu", "Equal", "Exp", "Floor",
    "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu",
    "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or",
    "Pow", "PRelu", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Sin", "Sqrt", "Sub", "Sum",
    "Tanh", "ThresholdedRelu", "Where", "Xor", "Clip",
)  # fmt: skip

_REWRITES: Final[Mapping[str, Callable[[Sketch, ir.Node], Sequence[ir.Value] | None]]] = {
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    **dict.fromkeys(("ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"), _reduce),
    "Concat": _concat,
    "Expand": _expand,
    "Gather": _gather,
    "LogSoftmax": _softmax,
    "MatMul": _matmul,
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Transpose": _transpose,
}
