"""An attention's nodes written again for one head, on matrices [1, 1, rows, columns]."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import onnx_ir as ir

from modelc.ir.emit import Scope, new_value
from modelc.ir.provenance import canonical_name, module_of, set_canonical_name, set_module
from modelc.ir.stored import slice_rows
from modelc.ir.weights import StoredWeight
from modelc.passes.htp.static import shape_constant, sizes_of

PROJECTIONS: Final = ("q_proj", "k_proj", "v_proj")


@dataclass
class HeadBranch:
    """What one head has of the tensors of all heads.

    Attributes:
        scope: its sheet takes the nodes; weights go straight into the graph.
        head: the number of the query head or key head.
        width: head_dim.
        values: this head's part of each tensor; what is not in it is the same for all heads.
    """

    scope: Scope
    head: int
    width: int
    values: dict[ir.Value, ir.Value]

    def write(self, nodes: Iterable[ir.Node]) -> None:
        """Write nodes for this head; those that only set heads apart have nothing to do."""
        for node in nodes:
            moves_heads = node.op_type in ("Reshape", "Transpose")
            if moves_heads and node.outputs[0].is_graph_output():
                self._write_cached(node)
            elif moves_heads:
                self.values[node.outputs[0]] = self._input(node, 0)
            else:
                self._write_alike(node)

    def _input(self, node: ir.Node, index: int) -> ir.Value:
        value = node.inputs[index]
        assert value is not None
        if module_of(node).endswith(PROJECTIONS) and value.is_initializer():
            return self._slice(value)
        return self.values.get(value, value)

    def _slice(self, weight: ir.Value) -> ir.Value:
        """Return this head's columns of a matrix, or elements of a bias."""
        tensor = weight.const_value
        assert isinstance(tensor, StoredWeight)
        assert tensor.source.transposed or len(tensor.source.shape) == 1
        first = self.head * self.width
        source = slice_rows(tensor.source, first, first + self.width)
        return self.scope.weight(self._name(weight), source)

    def _write_alike(self, node: ir.Node) -> None:
        outputs = [self._part_of(value, self._sizes(node, value)) for value in node.outputs]
        inputs = [self._input(node, index) for index in range(len(node.inputs))]
        copy = ir.Node(
            node.domain,
            node.op_type,
            inputs,
            node.attributes.values(),
            outputs=outputs,
            name=outputs[0].name,
        )
        set_module(copy, module_of(node))
        self.scope.sheet.nodes.append(copy)

    def _write_cached(self, node: ir.Node) -> None:
        """Write new keys or values as they are cached: keys turned, values as they are, but under
        an encoding of their own."""
        cached, source = node.outputs[0], self._input(node, 0)
        part = self._part_of(cached, [1, 1, *sizes_of(cached)[2:]])
        *_, rows, columns = node.attributes.get_ints("perm", ())
        if rows > columns:
            self.scope.emit_many("Transpose", [source], [part], perm=[0, 1, 3, 2])
        else:
            same = shape_constant(self.scope, sizes_of(part))
            self.scope.emit_many("Reshape", [source, same], [part])

    def _sizes(self, node: ir.Node, value: ir.Value) -> list[int]:
        """Return the shape of one head of a value: the axis of the heads is where it was made."""
        sizes = sizes_of(value)
        if len(sizes) == 3:  # projected: heads are columns beside each other
            return [1, 1, sizes[1], self.width]
        if node.op_type == "RMSNormalization":
            return [1, 1, sizes[1], sizes[3]]
        return [1, 1, *sizes[2:]]

    def _part_of(self, value: ir.Value, sizes: list[int]) -> ir.Value:
        part = new_value(self._name(value), sizes)
        set_canonical_name(part, canonical_name(value))
        self.values[value] = part
        return part

    def _name(self, value: ir.Value) -> str:
        return f"{value.name}.head_{self.head}"
