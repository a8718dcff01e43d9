"""A network that is being made canonical: its graph, and the small constants that are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import onnx_ir as ir

from modelc.errors import BadInput, Where
from modelc.frontends.onnx.modules import path_of
from modelc.ir.provenance import module_of

OPSET: Final = 23
"""The opset of canonical networks."""

IR_VERSION: Final = 11  # that opset 23 came with

LARGEST_KNOWN: Final = 4096
"""Elements of a constant that is worth computing with: shapes, axes and indices, no weights."""

Attribute = int | float | str | Sequence[int] | Sequence[float]


@dataclass
class Draft:
    """The model, changed in place, and where it was read from."""

    model: ir.Model
    where: Where
    _names: set[str] = field(default_factory=set)
    _known: dict[ir.Value, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for graph in (self.model.graph, *self.model.graph.subgraphs()):
            self._names.update(str(value.name) for value in graph.inputs)
            self._names.update(graph.initializers)
            for value in graph.initializers.values():
                assert value.const_value is not None  # it was read from a file
                note_type(value, value.const_value)
            self._names.update(str(value.name) for node in graph for value in node.outputs)

    def unique(self, name: str) -> str:
        """Return a name like `name` that no value has yet."""
        chosen, number = name, 1
        while chosen in self._names:
            number += 1
            chosen = f"{name}_{number}"
        self._names.add(chosen)
        return chosen

    def release(self, value: ir.Value) -> None:
        """Let another value have the name of one that goes."""
        self._names.discard(str(value.name))

    def store(self, tensor: ir.TensorProtocol, name: str) -> ir.Value:
        """Return an initialiser of the whole network, called like `name`."""
        name = self.unique(name)
        tensor.name = name
        value = ir.Value(name=name, const_value=tensor)
        note_type(value, tensor)
        self.model.graph.register_initializer(value)
        return value

    def known(self, value: ir.Value | None) -> np.ndarray | None:
        """Return a value if it is a small constant of numbers."""
        if value is None or not value.is_initializer() or value.const_value is None:
            return None
        tensor = value.const_value
        if tensor.dtype.bitwidth < 8 or tensor.size > LARGEST_KNOWN:
            return None
        if value not in self._known:
            array = tensor.numpy()
            if array.dtype.kind not in "biuf":  # texts, and floats that numpy doesn't know
                return None
            self._known[value] = array
        return self._known[value]

    def refuse(self, node: ir.Node, why: str, hint: str) -> BadInput:
        """Return the error that a node can't be had."""
        module = module_of(node) or path_of(node)
        place = Where(self.where.step, self.where.graph, module, self.where.path)
        return BadInput(f"{node.op_type} {why}", where=place, hint=hint)


@dataclass
class Rewrite:
    """The nodes that take the place of one."""

    draft: Draft
    node: ir.Node
    nodes: list[ir.Node] = field(default_factory=list)

    def emit(
        self, op_type: str, inputs: Sequence[ir.Value | None], **attributes: Attribute
    ) -> ir.Value:
        """Write a node of one output."""
        return self.emit_many(op_type, inputs, 1, **attributes)[0]

    def emit_many(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        outputs: int,
        **attributes: Attribute,
    ) -> Sequence[ir.Value]:
        """Write a node of some outputs. Inputs that are left out at the end must not be given."""
        node = ir.Node(
            "",
            op_type,
            inputs,
            ir.convenience.convert_attributes(attributes),
            num_outputs=outputs,
            version=OPSET,
        )
        self.nodes.append(node)
        return node.outputs

    def again(self, inputs: Sequence[ir.Value | None], **attributes: Attribute) -> list[ir.Value]:
        """Write the node itself with other inputs and attributes, as many outputs as it had."""
        outputs = len(self.node.outputs)
        return list(self.emit_many(self.node.op_type, inputs, outputs, **attributes))

    def integers(self, numbers: Sequence[int], label: str) -> ir.Value:
        """Return a constant of int64 [len(numbers)]."""
        return self.array(np.array(numbers, np.int64), label)

    def array(self, array: np.ndarray, label: str) -> ir.Value:
        return self.draft.store(ir.tensor(array), f"{self._stem}.{label}")

    def number_like(self, value: ir.Value, number: float, label: str) -> ir.Value:
        """Return a constant of no axes, of the type of `value`.

        Raises:
            BadInput: that isn't known.
        """
        if value.dtype is None:
            raise self.refuse("reads a tensor of unknown type", "export it with types of tensors")
        return self.array(np.array(number, value.dtype.numpy()), label)

    def refuse(self, why: str, hint: str) -> BadInput:
        return self.draft.refuse(self.node, why, hint)

    @property
    def _stem(self) -> str:
        return self.node.name or str(self.node.outputs[0].name)


def note_type(value: ir.Value, tensor: ir.TensorProtocol) -> None:
    """Give a value the type and the sizes of the tensor that it is."""
    value.type, value.shape = ir.TensorType(tensor.dtype), ir.Shape(tensor.shape.numpy())


def sizes_of(value: ir.Value | None) -> tuple[int, ...] | None:
    """Return the sizes of a value, None if they are not all known."""
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    return tuple(value.shape.numpy())


def rank_of(value: ir.Value | None) -> int | None:
    return None if value is None or value.shape is None else value.shape.rank()
