"""Writing nodes: every node gets its module path, every value a name made of it, type and shape."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from modelc.ir.provenance import set_module
from modelc.ir.stored import StoredMatrix
from modelc.ir.weights import StoredWeight

Dims = Sequence[int | str]


@dataclass
class Sheet:
    """Nodes in the order they were written, and the initialisers they read, by name."""

    nodes: list[ir.Node] = field(default_factory=list)
    initializers: MutableMapping[str, ir.Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Scope:
    """A module path and the sheet that its nodes are written to."""

    module: str
    sheet: Sheet

    def inside(self, name: str) -> Scope:
        return Scope(self.path(name), self.sheet)

    def path(self, name: str) -> str:
        """Return the name of a value of this module; the module's own result has no `name`."""
        return ".".join(part for part in (self.module, name) if part)

    def emit(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        dims: Dims,
        name: str = "",
        *,
        dtype: ir.DataType = ir.DataType.FLOAT,
        domain: str = "",
        **attributes: int | float | str | Sequence[int],
    ) -> ir.Value:
        """Write a node of one output, called `name` within this module."""
        result = new_value(self.path(name), dims, dtype)
        self.emit_many(op_type, inputs, [result], domain=domain, **attributes)
        return result

    def emit_many(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        outputs: Sequence[ir.Value],
        *,
        domain: str = "",
        **attributes: int | float | str | Sequence[int],
    ) -> Sequence[ir.Value]:
        """Write a node that makes `outputs`; it is named like the first of them."""
        node = ir.node(
            op_type, inputs, attributes, domain=domain, outputs=outputs, name=outputs[0].name
        )
        set_module(node, self.module)
        self.sheet.nodes.append(node)
        return outputs

    def constant(self, name: str, array: np.ndarray) -> ir.Value:
        """Return the initialiser of this full name, written once per sheet."""
        return self.tensor(ir.Tensor(array, name=name))

    def weight(self, name: str, source: StoredMatrix) -> ir.Value:
        """Return the initialiser of this full name over a stored weight."""
        return self.tensor(StoredWeight(source, name))

    def tensor(self, tensor: ir.TensorProtocol) -> ir.Value:
        """Return the initialiser of this tensor's name, written once per sheet."""
        assert tensor.name
        if tensor.name not in self.sheet.initializers:
            value = new_value(tensor.name, tensor.shape.numpy(), tensor.dtype)
            value.const_value = tensor
            self.sheet.initializers[tensor.name] = value
        return self.sheet.initializers[tensor.name]


def new_value(name: str, dims: Dims, dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(dims), type=ir.TensorType(dtype))


def dims_of(value: ir.Value) -> list[int | str]:
    """Return the dimensions of a value, symbolic ones by name."""
    assert value.shape is not None, f"{value.name} has no shape"
    return [dim if isinstance(dim, int) else str(dim.value) for dim in value.shape]
