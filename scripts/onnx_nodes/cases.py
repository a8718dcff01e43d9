"""The onnx package's node tests, as networks with their inputs and expected outputs."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

Arrays = dict[str, np.ndarray]

_EXPANDED: Final = re.compile(r"_expanded(_ver\d+)?$")
_BESIDE: Final = {"bool", "int32", "int64", "uint8"}
_WITH_FLOATS: Final = _BESIDE | {"float32", "int8", "int16", "uint16", "uint32", "uint64"}

OF_SIZES: Final = frozenset(
    {
        "BlackmanWindow", "ConstantOfShape", "HammingWindow", "HannWindow", "MelWeightMatrix",
        "Range",
    }
)  # fmt: skip
"""Operators whose inputs are sizes and the like, all of them."""


@dataclass(frozen=True)
class Case:
    """One test.

    Attributes:
        name: without "test_".
        operator: what it tests; of an operator that is written out as others ("..._expanded"),
            that operator.
        expected: by output, in the model's order.
        out: why it is none of a static float32 model's, "" if it is.
    """

    name: str
    operator: str
    proto: onnx.ModelProto
    inputs: Arrays
    expected: Arrays
    out: str = ""

    @property
    def can_be_fixed(self) -> bool:
        """Whether `fixed` is any different."""
        return len(self.inputs) > (0 if self.operator in OF_SIZES else 1)

    def fixed(self) -> Case:
        """Return the same with all inputs but the first as constants, as sizes, axes and weights
        are in models that people have; all of them for what is made of sizes alone."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        kept_inputs = [] if self.operator in OF_SIZES else list(self.inputs)[:1]
        others = [name for name in self.inputs if name not in kept_inputs]
        stored = [numpy_helper.from_array(self.inputs[name], name) for name in others]
        proto.graph.initializer.extend(stored)
        kept = [value for value in proto.graph.input if value.name not in others]
        del proto.graph.input[:]
        proto.graph.input.extend(kept)
        return Case(
            self.name,
            self.operator,
            proto,
            {name: self.inputs[name] for name in kept_inputs},
            self.expected,
        )


def collect() -> list[Case]:
    """Return all cases of the installed onnx package, by name. Takes some ten seconds."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # overflows that the tests want
        collected = sorted(collect_testcases(None), key=lambda case: str(case.name))
    operators: dict[str, str] = {}
    for case in collected:
        assert case.model is not None  # these tests are made, not read
        operators[case.name] = _operators(case.model)
    return [_read(case, operators) for case in collected]


def _operators(model: onnx.ModelProto) -> str:
    return " + ".join(dict.fromkeys(node.op_type for node in model.graph.node))


def _read(case: Any, operators: dict[str, str]) -> Case:
    name = str(case.name)
    operator = operators.get(_EXPANDED.sub("", name), operators[name])
    proto = onnx.ModelProto()
    proto.CopyFrom(case.model)
    out = _reason_out(proto, case.data_sets[0])
    if out:
        return Case(name.removeprefix("test_"), operator, proto, {}, {}, out)
    inputs, outputs = ([np.asarray(array) for array in side] for side in case.data_sets[0])
    graph = proto.graph
    # A test's model may leave sizes open; its data has them.
    for value, array in zip((*graph.input, *graph.output), (*inputs, *outputs), strict=True):
        element = value.type.tensor_type.elem_type
        value.type.CopyFrom(helper.make_tensor_type_proto(element, array.shape))
    return Case(
        name.removeprefix("test_"),
        operator,
        proto,
        dict(zip((value.name for value in graph.input), inputs, strict=True)),
        dict(zip((value.name for value in graph.output), outputs, strict=True)),
    )


def _reason_out(proto: onnx.ModelProto, data: Any) -> str:
    domains = {node.domain for node in proto.graph.node} - {"", "ai.onnx"}
    if domains:
        return f"operators of {min(domains)}"
    ports = [*proto.graph.input, *proto.graph.output]
    kinds = {str(value.type.WhichOneof("value")) for value in ports}
    if kinds - {"tensor_type"}:
        return "sequences and optional values"
    types = {_type_of(value) for value in ports}
    if "string" in types:
        return "strings"
    if "float32" in types and not types - _WITH_FLOATS:
        return "" if all(_is_tensor(array) for side in data for array in side) else "no tensors"
    if not types - _BESIDE:
        return ""
    floats = types - _WITH_FLOATS
    return f"numbers of {_family(floats)}" if floats else "narrow integers without a float32"


def _is_tensor(array: Any) -> bool:
    return isinstance(array, np.ndarray | np.generic)


def _type_of(value: onnx.ValueInfoProto) -> str:
    """Return a tensor's type as in "float32", "bool", "float8e4m3fn"."""
    name = helper.tensor_dtype_to_string(value.type.tensor_type.elem_type)
    name = name.removeprefix("TensorProto.").lower()
    return "float32" if name == "float" else name


def _family(types: set[str]) -> str:
    """Return one name for types that leave a test out for the same reason."""
    rows = (
        ("float8", "8 bits"), ("float4", "4 bits"), ("int4", "4 bits"), ("int2", "2 bits"),
        ("bfloat16", "bfloat16"), ("float16", "float16"), ("double", "float64"),
        ("complex", "complex"),
    )  # fmt: skip
    for part, told in rows:
        if any(part in name for name in types):
            return told
    return min(types)
