"""Computing at compile time what depends on no input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final

import numpy as np
import onnx_ir as ir

from modelc.ir.emit import new_value
from modelc.ir.legality import Stage
from modelc.passes.base import Pass
from modelc.passes.network.read import (
    dtype_of,
    integer,
    is_op,
    is_static,
    needed,
    sizes_of,
    tensor_of,
)
from modelc.passes.network.sketch import Names, Sketch

MIB: Final = 1 << 20
LARGE: Final = MIB  # bytes from which a result is computed when it is read, never held

# Not the same each time, or with a meaning that must survive.
_KEPT: Final = frozenset(
    {
        "Bernoulli", "DequantizeLinear", "Multinomial", "QuantizeLinear", "RandomNormal",
        "RandomNormalLike", "RandomUniform", "RandomUniformLike",
    }
)  # fmt: skip


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Nodes of constants become initialisers, and so do the sizes of static tensors; ONNX Runtime
    computes them. Constant nodes become initialisers too.

    Attributes:
        limit_mib: the largest result that is folded although it is larger than its inputs: what a
            small file says to expand must not fill the memory.
        growth_mib: how much larger all results may be together than their inputs.
    """

    limit_mib: int = 512
    growth_mib: int = 1024

    name: ClassVar[str] = "fold_constants"
    before: ClassVar[Stage] = "network"
    after: ClassVar[Stage] = "network"

    def apply(self, model: ir.Model) -> ir.Model:
        room, names = self.growth_mib * MIB, Names(model.graph)
        for node in list(model.graph):
            tensors = _known(node)
            if tensors is None and _is_foldable(node):
                given = [tensor_of(value) for value in node.inputs]
                growth = _bytes(node) - sum(tensor.nbytes for tensor in given if tensor)
                if growth <= min(room, self.limit_mib * MIB):
                    tensors = _computed(node, given, dict(model.opset_imports))
                    room -= max(0, growth) if tensors else 0
            if tensors is not None:
                _replace(model.graph, node, tensors, names)
        return model


def _known(node: ir.Node) -> list[ir.TensorProtocol] | None:
    """Return what a Constant, Shape or Size of a static tensor gives, without computing it; and a
    constant that CastLike leaves as it is, whatever it reads the type of."""
    if is_op(node, "Constant") and (tensor := tensor_of(node.outputs[0])) is not None:
        return [tensor]
    if is_op(node, "CastLike") and (tensor := tensor_of(needed(node))) is not None:
        return [tensor] if tensor.dtype == node.outputs[0].dtype else None
    if is_op(node, "Shape", "Size") and is_static(node.inputs[0]):
        sizes = np.array(sizes_of(needed(node)), np.int64)
        if node.op_type == "Size":
            return [ir.tensor(np.array(math.prod(sizes.tolist()), np.int64))]
        first, last = integer(node, "start", 0), integer(node, "end", len(sizes))
        return [ir.tensor(sizes[first:last])]
    return None


def _is_foldable(node: ir.Node) -> bool:
    plain = node.domain == "" and node.op_type not in _KEPT
    flat = all(a.type not in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
               for a in node.attributes.values() if isinstance(a, ir.Attr))  # fmt: skip
    given = all(value is None or tensor_of(value) is not None for value in node.inputs)
    static = all(
        is_static(value) and value.dtype is not None for value in node.outputs if value.name
    )
    return plain and flat and given and static


def _bytes(node: ir.Node) -> int:
    return sum(
        math.prod(sizes_of(value)) * max(1, dtype_of(value).bitwidth // 8)
        for value in node.outputs
        if value.name
    )


def _computed(
    node: ir.Node, given: Sequence[ir.TensorProtocol | None], opsets: dict[str, int]
) -> list[ir.TensorProtocol] | None:
    """Return what a node gives, or None if ONNX Runtime doesn't say. Large results are computed
    anew whenever they are read: the weights that they are made of may lie on disk."""
    call = _Call(node, tuple(given), opsets)
    if _bytes(node) > LARGE:
        return [
            ir.LazyTensor(
                partial(call.output, index),
                dtype=dtype_of(value),
                shape=ir.Shape(sizes_of(value)),
            )
            for index, value in enumerate(node.outputs)
        ]
    try:
        arrays = call.run()
    except Exception:  # ONNX Runtime raises many types: it has no such kernel, or the data are bad
        return None
    same = all(
        array.shape == sizes_of(value)
        for array, value in zip(arrays, node.outputs, strict=True)
        if value.name
    )
    return [ir.tensor(array) for array in arrays] if same else None


class _Call:
    """One node of constants, to be run on ONNX Runtime."""

    def output(self, index: int) -> ir.TensorProtocol:
        return ir.tensor(self.run()[index])

    def __init__(
        self, node: ir.Node, given: tuple[ir.TensorProtocol | None, ...], opsets: dict[str, int]
    ) -> None:
        self._given = given
        self._shapes = [(dtype_of(v), sizes_of(v)) for v in node.outputs if v.name]
        self._kept = [bool(value.name) for value in node.outputs]
        self._node = (node.op_type, dict(node.attributes), opsets)

    def run(self) -> list[np.ndarray]:
        """Return every output, an empty array for one that has no name."""
        import onnxruntime as ort

        op_type, attributes, opsets = self._node
        inputs: list[ir.Value | None] = []
        feeds: dict[str, Any] = {}
        for index, tensor in enumerate(self._given):
            if tensor is None:
                inputs.append(None)
                continue
            value = new_value(f"in{index}", tensor.shape.numpy(), tensor.dtype)
            inputs.append(value)
            feeds[f"in{index}"] = tensor.numpy()
        shapes = iter(self._shapes)
        outputs = [
            new_value(f"out{index}", next(shapes)[1]) if kept else ir.Value(name="")
            for index, kept in enumerate(self._kept)
        ]
        for value, (dtype, _) in zip((v for v in outputs if v.name), self._shapes, strict=True):
            value.type = ir.TensorType(dtype)
        node = ir.Node("", op_type, inputs, attributes.values(), outputs=outputs)
        named = [value for value in outputs if value.name]
        graph = ir.Graph([v for v in inputs if v], named, nodes=[node], opset_imports=opsets)
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        proto = ir.serde.serialize_model(ir.Model(graph, ir_version=10))
        session = ort.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        arrays = iter(session.run(None, feeds))
        return [next(arrays) if kept else np.empty(0) for kept in self._kept]


def _replace(
    graph: ir.Graph, node: ir.Node, tensors: Sequence[ir.TensorProtocol], names: Names
) -> None:
    """Give the readers of a node's outputs initialisers; an output of the graph becomes a copy."""
    if any(value.is_graph_output() for value in node.outputs):
        if len(node.outputs) == 1 and not is_op(node, "Identity"):
            sketch = Sketch(graph, node, names)
            copied = sketch.tensor(tensors[0], "constant")
            sketch.finish([sketch.op("Identity", [copied])])
        return
    for value, tensor in zip(node.outputs, tensors, strict=True):
        if not value.name:
            continue
        name = str(value.name)
        constant = new_value(name, tensor.shape.numpy(), tensor.dtype)
        constant.const_value = tensor
        value.replace_all_uses_with(constant)
        value.name = None
        graph.initializers[name] = constant
    graph.remove(node, safe=True)
