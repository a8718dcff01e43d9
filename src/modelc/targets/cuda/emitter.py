"""Gathers the calls of one function while its graph is gone through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import onnx_ir as ir

from modelc.errors import ModelcError, Where
from modelc.ir.emit import dims_of
from modelc.ir.provenance import module_of
from modelc.targets.cuda.inputs import INPUT_TYPES
from modelc.targets.cuda.kernel import Constants, Extent
from modelc.targets.cuda.kernel_table import KERNELS
from modelc.targets.cuda.memory_plan import Lifetime, place
from modelc.targets.cuda.plan import Buffer, Call, Function
from modelc.targets.cuda.variant import Variant
from modelc.targets.cuda.weights_file import NAMES


@dataclass(frozen=True)
class Numbers:
    """What a function is for.

    Attributes:
        kind: `decode` (each sequence has one new token) or `prefill`.
        most: greatest value of each symbol.
        act, kv: element types of activations and of the cache.
        page: positions in a page of the cache.
        few: use the kernels for few tokens where there are at most 16.
        fuse_codes: norms that layers read as codes are written as codes.
    """

    kind: Literal["decode", "prefill"]
    most: Mapping[str, int]
    act: str
    kv: str
    page: int
    few: bool
    fuse_codes: bool

    @property
    def is_few(self) -> bool:
        return self.few and self.most["tokens"] <= 16


@dataclass(frozen=True)
class Choosing:
    """The calls behind a function's that choose tokens, and the buffer that these lie in."""

    greedy: tuple[Call, ...]
    sampled: tuple[Call, ...]
    chosen: str


@dataclass
class Emitter:
    """A function in the making; `weights` and `variants` are shared by all of a plan."""

    numbers: Numbers
    weights: dict[str, ir.TensorProtocol]
    variants: dict[str, Variant]
    buffers: dict[str, Buffer] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    same: dict[object, str] = field(default_factory=dict)

    def launch(
        self,
        node: ir.Node,
        kernel: str,
        tensors: Mapping[str, str | None],
        constants: Constants,
    ) -> None:
        """Add a launch; `tensors` are names of buffers, weights and inputs by parameter."""
        call = self.call(module_of(node), kernel, tensors, constants)
        first = next((value for value in node.inputs if value is not None), None)
        if first is not None and dims_of(first)[0] == "rows":
            call = replace(call, counts="rows")
        self.calls.append(call)

    def call(
        self,
        module: str,
        kernel: str,
        tensors: Mapping[str, str | None],
        constants: Constants,
    ) -> Call:
        """Return a launch, which is not yet one of the function's."""
        row = KERNELS[kernel]
        given = {
            tensor.name: name
            for tensor in row.tensors
            if (name := tensors.get(tensor.name)) is not None
        }
        missing = [t.name for t in row.tensors if not t.optional and t.name not in given]
        wrong = sorted(set(tensors) - {tensor.name for tensor in row.tensors})
        if missing or wrong or set(constants) != set(row.constants):
            raise ModelcError(
                f"{kernel} is launched wrongly: without {missing}, with {wrong}, constants "
                f"{sorted(constants)} for {sorted(row.constants)}",
                where=Where(module=module),
            )
        types = {parameter: self.type_of(name) for parameter, name in given.items()}
        variant = Variant(kernel, types, dict(constants))
        self.variants[variant.key] = variant
        return Call(module, kernel=variant.key, tensors=given)

    def operator(self, node: ir.Node, name: str, attributes: Constants) -> None:
        """Add an operator of torch that makes the node's result of its inputs."""
        tensors = {str(place): self.read(value) for place, value in enumerate(node.inputs) if value}
        tensors["out"] = self.make(node.outputs[0])
        self.calls.append(
            Call(module_of(node), operator=name, tensors=tensors, attributes=dict(attributes))
        )

    def collective(self, node: ir.Node, name: str) -> None:
        """Add what joins the devices' shares of a buffer into the node's result."""
        tensors = {"0": name, "out": str(node.outputs[0].name)}
        self.calls.append(Call(module_of(node), operator=node.op_type, tensors=tensors))

    def read(self, value: ir.Value) -> str:
        """Return the name under which a value is found."""
        name = str(value.name)
        if value.const_value is not None:
            return self._weight(name, value.const_value)
        return self.aliases.get(name, name)

    def read_optional(self, value: ir.Value | None) -> str | None:
        return None if value is None else self.read(value)

    def make(self, value: ir.Value, type: str = "") -> str:
        """Return the name of a new buffer for a value, of activations if no type is given. What
        each token has of several experts lies in rows of its own."""
        lead, *sides = dims_of(value)
        first = [Extent(lead) if isinstance(lead, int) else Extent(1, lead)]
        if len(sides) > 1:
            rows, *sides = sides
            assert isinstance(rows, int) and isinstance(lead, str)
            first = [Extent(rows, lead)]
        assert all(isinstance(side, int) for side in sides), value.name
        dims = (*first, *(Extent(int(side)) for side in sides))
        return self.buffer(str(value.name), type or self.numbers.act, dims)

    def buffer(self, name: str, type: str, dims: tuple[Extent, ...]) -> str:
        """Return the name of a new buffer."""
        assert name not in self.buffers, name
        self.buffers[name] = Buffer(type, dims)
        return name

    def alias(self, value: ir.Value, name: str) -> None:
        """Say that a value lies in a buffer that there is."""
        self.aliases[str(value.name)] = name

    def type_of(self, name: str) -> str:
        if name in self.buffers:
            return self.buffers[name].type
        if name in self.weights:
            return NAMES[self.weights[name].dtype][0]
        if name in INPUT_TYPES:
            return INPUT_TYPES[name]
        return self.numbers.kv  # a cache

    def function(self, name: str, result: ir.Value, choosing: Choosing) -> Function:
        """Return the function, its buffers in their places."""
        found = self.read(result)
        most, lives = self.numbers.most, self._lifetimes(found, choosing)
        offsets, arena = place(lives)
        buffers = {key: replace(self.buffers[key], offset=offsets[key]) for key in lives}
        return Function(
            name, self.numbers.kind, dict(most), buffers, tuple(self.calls), arena, found,
            choosing.greedy, choosing.sampled, choosing.chosen,
        )  # fmt: skip

    def _lifetimes(self, result: str, choosing: Choosing) -> dict[str, Lifetime]:
        """A buffer lives from the first call that names it to the last; results to the end."""
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        for more in (choosing.greedy, choosing.sampled):
            for index, call in enumerate((*self.calls, *more)):
                for name in call.tensors.values():
                    if name in self.buffers:
                        first[name] = min(index, first.get(name, index))
                        last[name] = max(index, last.get(name, index))
        for name in (result, choosing.chosen):
            last[name] = len(self.calls) + max(len(choosing.greedy), len(choosing.sampled))
        most = self.numbers.most
        return {
            name: Lifetime(self.buffers[name].size(most), first[name], last[name]) for name in first
        }

    def _weight(self, name: str, tensor: ir.TensorProtocol) -> str:
        """The name of a weight; what is the same numbers is one weight (a tied head)."""
        sources = getattr(tensor, "sources", None) or getattr(tensor, "source", None)
        key = (getattr(tensor, "how", ""), sources) if sources else name
        found = self.same.setdefault(key, name)
        self.weights.setdefault(found, tensor)
        return found


Rule = Callable[[ir.Node, Emitter], None]
"""Adds the calls that compute one node."""
