"""Writing the nodes that replace others: names made of the result's, types and sizes worked out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from modelc.ir.emit import Scope, Sheet, new_value
from modelc.ir.provenance import inherit
from modelc.passes.network.read import dtype_of, sizes_of


class Names:
    """The names of a graph's values, those in subgraphs as well: no two may be one."""

    def __init__(self, graph: ir.Graph) -> None:
        self._taken = {str(value.name) for value in (*graph.inputs, *graph.initializers.values())}
        for node in graph.all_nodes():
            self._taken.update(str(value.name) for value in node.outputs)

    def fresh(self, name: str) -> str:
        """Return `name`, with a number behind it if it is taken already."""
        found, count = name, 1
        while found in self._taken:
            count += 1
            found = f"{name}.{count}"
        self._taken.add(found)
        return found


@dataclass
class Sketch:
    """Nodes that will take the place of `node`. Values are called after its result: `result.part`.

    What is broadcast or reshaped gets its sizes here, so that every value of a static graph keeps
    them; other operators are told theirs.
    """

    graph: ir.Graph
    node: ir.Node
    names: Names

    def __post_init__(self) -> None:
        named = next(value for value in self.node.outputs if value.name)
        self._prefix = str(named.name)
        self._sheet = Sheet(initializers=self.graph.initializers)

    @property
    def nodes(self) -> list[ir.Node]:
        return self._sheet.nodes

    def op(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        sizes: Sequence[int] | None = None,
        name: str = "",
        *,
        dtype: ir.DataType | None = None,
        **attributes: Any,
    ) -> ir.Value:
        """Write a node of one output; its sizes are its inputs' broadcast ones and its type the
        first input's, if not given."""
        if sizes is None:
            sizes = np.broadcast_shapes(*(sizes_of(value) for value in inputs if value is not None))
        if dtype is None:
            assert inputs and inputs[0] is not None
            dtype = dtype_of(inputs[0])
        result = new_value(self._name(name or op_type.lower()), tuple(sizes), dtype)
        return Scope("", self._sheet).emit_many(op_type, inputs, [result], **attributes)[0]

    def many(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        outputs: Sequence[tuple[str, Sequence[int], ir.DataType]],
        **attributes: Any,
    ) -> Sequence[ir.Value]:
        """Write a node of several outputs, each with its name, sizes and type."""
        values = [new_value(self._name(name), tuple(s), dtype) for name, s, dtype in outputs]
        return Scope("", self._sheet).emit_many(op_type, inputs, values, **attributes)

    def constant(self, array: np.ndarray, name: str = "constant") -> ir.Value:
        """Return a new initialiser."""
        return self.tensor(ir.tensor(array), name)

    def tensor(self, tensor: ir.TensorProtocol, name: str) -> ir.Value:
        """Return a new initialiser over a tensor, which may lie on disk."""
        value = new_value(self._name(name), tensor.shape.numpy(), tensor.dtype)
        value.const_value = tensor
        self.graph.initializers[str(value.name)] = value
        return value

    def number(self, number: float, like: ir.Value, name: str = "number") -> ir.Value:
        """Return a scalar of the type of `like`."""
        return self.constant(np.array(number, dtype_of(like).numpy()), name)

    def integers(self, numbers: Sequence[int] | np.ndarray, name: str = "integers") -> ir.Value:
        return self.constant(np.array(numbers, np.int64), name)

    def binary(self, op_type: str, left: ir.Value, right: ir.Value | float) -> ir.Value:
        """Write an operator of two operands; a number becomes a scalar of the left one's type."""
        other = right if isinstance(right, ir.Value) else self.number(right, left)
        return self.op(op_type, [left, other])

    def add(self, left: ir.Value, right: ir.Value | float) -> ir.Value:
        return self.binary("Add", left, right)

    def sub(self, left: ir.Value, right: ir.Value | float) -> ir.Value:
        return self.binary("Sub", left, right)

    def mul(self, left: ir.Value, right: ir.Value | float) -> ir.Value:
        return self.binary("Mul", left, right)

    def div(self, left: ir.Value, right: ir.Value | float) -> ir.Value:
        return self.binary("Div", left, right)

    def compare(self, op_type: str, left: ir.Value, right: ir.Value | float) -> ir.Value:
        other = right if isinstance(right, ir.Value) else self.number(right, left)
        return self.op(op_type, [left, other], dtype=ir.DataType.BOOL)

    def where(self, condition: ir.Value, left: ir.Value, right: ir.Value) -> ir.Value:
        return self.op("Where", [condition, left, right], dtype=dtype_of(left))

    def cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        if value.dtype == dtype:
            return value
        return self.op("Cast", [value], dtype=dtype, to=int(dtype))

    def reshape(self, value: ir.Value, sizes: Sequence[int]) -> ir.Value:
        if sizes_of(value) == tuple(sizes):
            return value
        return self.op("Reshape", [value, self.integers(sizes, "sizes")], sizes)

    def transpose(self, value: ir.Value, perm: Sequence[int]) -> ir.Value:
        if list(perm) == sorted(perm):
            return value
        sizes = sizes_of(value)
        return self.op("Transpose", [value], [sizes[axis] for axis in perm], perm=list(perm))

    def matmul(self, left: ir.Value, right: ir.Value) -> ir.Value:
        a, b = sizes_of(left), sizes_of(right)
        batch = np.broadcast_shapes(a[:-2], b[:-2])
        return self.op("MatMul", [left, right], (*batch, a[-2], b[-1]))

    def reduce(
        self, op_type: str, value: ir.Value, axes: Sequence[int], keepdims: bool = True
    ) -> ir.Value:
        """Write a reduction over axes counted from the front."""
        sizes = list(sizes_of(value))
        kept = [1 if axis in axes else size for axis, size in enumerate(sizes)]
        if not keepdims:
            kept = [size for axis, size in enumerate(sizes) if axis not in axes]
        axes_value = self.integers(axes, "axes")
        return self.op(op_type, [value, axes_value], kept, keepdims=int(keepdims))

    def slice(self, value: ir.Value, axis: int, start: int, stop: int, step: int = 1) -> ir.Value:
        """Write a slice [start, stop) of one axis, all within it."""
        sizes = list(sizes_of(value))
        sizes[axis] = len(range(start, stop, step))
        bounds = [self.integers([number], "bound") for number in (start, stop, axis, step)]
        return self.op("Slice", [value, *bounds], sizes)

    def take(self, value: ir.Value, indices: np.ndarray, axis: int) -> ir.Value:
        """Write a Gather of constant indices along one axis; a scalar removes the axis."""
        sizes = sizes_of(value)
        result = (*sizes[:axis], *indices.shape, *sizes[axis + 1 :])
        return self.op("Gather", [value, self.integers(indices, "indices")], result, axis=axis)

    def concat(self, values: Sequence[ir.Value], axis: int) -> ir.Value:
        if len(values) == 1:
            return values[0]
        sizes = list(sizes_of(values[0]))
        sizes[axis] = sum(sizes_of(value)[axis] for value in values)
        return self.op("Concat", values, sizes, axis=axis)

    def pad(
        self, value: ir.Value, before: Sequence[int], after: Sequence[int], number: float = 0.0
    ) -> ir.Value:
        """Write a Pad with a number; one size before and after each axis."""
        if not any((*before, *after)):
            return value
        sizes = [sum(parts) for parts in zip(sizes_of(value), before, after, strict=True)]
        pads = self.integers([*before, *after], "pads")
        return self.op("Pad", [value, pads, self.number(number, value)], sizes, mode="constant")

    def _name(self, part: str) -> str:
        return self.names.fresh(f"{self._prefix}.{part}")

    def finish(self, results: Sequence[ir.Value | None], fused: Sequence[ir.Node] = ()) -> None:
        """Put the nodes where `node` is, with its module path and those of the `fused` ones, whose
        work they do as well. Results take the names of the node's outputs; None is an output that
        nobody reads."""
        pairs = [
            (before, self._owned(after))
            for before, after in zip(self.node.outputs, results, strict=False)
            if after is not None
        ]
        inherit(self.nodes, *fused, self.node)
        ir.convenience.replace_nodes_and_values(
            self.graph,
            self.node,
            [self.node],
            self.nodes,
            [before for before, _ in pairs],
            [after for _, after in pairs],
        )
        for _, after in pairs:
            producer = after.producer()
            if producer is not None and producer.outputs[0] is after:
                producer.name = after.name

    def abandon(self) -> None:
        """Take back what was written: the nodes read nothing any more."""
        for node in self.nodes:
            for index in range(len(node.inputs)):
                node.replace_input_with(index, None)

    def _owned(self, value: ir.Value) -> ir.Value:
        """Return the value, copied if no node of this sketch makes it: it has a name already."""
        if value.producer() in self.nodes:
            return value
        return self.op("Identity", [value])
