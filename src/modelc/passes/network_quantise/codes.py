"""Weights and biases of linear nodes as integer codes; the codes are made when they are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np
import onnx_ir as ir

from modelc.errors import BadInput, Where
from modelc.ir.emit import Scope, dims_of, new_value
from modelc.ir.network_encodings import Precision
from modelc.ir.operands import LinearNode
from modelc.ir.packing.coded_rows import CodedRows
from modelc.ir.packing.integer_rows import quantise_integers
from modelc.ir.packing.kinds import IntegerForm
from modelc.ir.packing.scale_search import not_zero

_FORMS = {
    "int4": IntegerForm(4),
    "int8": IntegerForm(8),
    "int16": IntegerForm(16),
    "uint8": IntegerForm(8, symmetric=False),
}
_LARGEST_BIAS = float(np.iinfo(np.int32).max)

LEAST_STEP = 2.0**-20
"""Of input times weight, in steps of the output. With weights of 8 and of 4 bits HTP's products of
16-bit activations were seen to be right at 2 ** -21, and wrong at 2 ** -23.7."""


@dataclass(frozen=True, eq=False)
class CodedWeight:
    """The weight of one linear node: its scales, and how its codes are made.

    Attributes:
        scales: float32 [channels], or [1] for the whole weight.
        zeros: uint8 like `scales`, if the codes have zero points other than 0.
    """

    linear: LinearNode
    precision: Precision
    scales: np.ndarray
    zeros: np.ndarray | None

    @property
    def dtype(self) -> ir.DataType:
        return ir.DataType[self.precision.weights.upper()]

    @property
    def axis(self) -> int | None:
        """Of the scales; None if there is one."""
        return self.linear.axis if self.precision.per_channel else None

    def codes(self, name: str) -> ir.LazyTensor:
        """Integers of the weight's shape, never kept."""
        tensor = self.linear.weight.const_value
        assert tensor is not None
        return ir.LazyTensor(
            lambda: ir.Tensor(self._make(), self.dtype),
            dtype=self.dtype,
            shape=ir.Shape(tensor.shape.numpy()),
            name=name,
        )

    def _make(self) -> np.ndarray:
        tensor = self.linear.weight.const_value
        assert tensor is not None
        rows = _rows(self.linear, self.precision)
        scales = self.scales.reshape(-1, 1)
        zeros = None if self.zeros is None else self.zeros.reshape(-1, 1)
        form = _FORMS[self.precision.weights]
        codes = quantise_integers(rows, form, scales, zeros=zeros).codes
        if self.axis is None:
            array = codes.reshape(tensor.shape.numpy())
        else:
            array = self.linear.unrows(codes, tuple(tensor.shape.numpy()))
        return array.view(ml_dtypes.int4) if self.dtype == ir.DataType.INT4 else array

    def widened(self, bias: np.ndarray, input_scale: float) -> CodedWeight:
        """Return it with scales so large that the bias fits in 32 bits of input times weight."""
        least = np.abs(bias).astype(np.float64) / (_LARGEST_BIAS * input_scale)
        needed = least if self.scales.size > 1 else least.max(keepdims=True, initial=0.0)
        return self._with(needed) if needed.size == self.scales.size else self

    def computable(self, input_scale: float, output_scale: float) -> CodedWeight:
        """Return it with scales so large that HTP computes products with 16-bit activations.

        A channel whose weights are next to nothing beside the others comes out as anything, where
        a step of input times weight is too small a part of one of the output (`LEAST_STEP`).
        """
        return self._with(np.asarray(LEAST_STEP * output_scale / input_scale))

    def _with(self, least: np.ndarray) -> CodedWeight:
        if (least <= self.scales).all():
            return self
        scales = np.maximum(self.scales, least).astype(np.float32)
        return replace(self, scales=scales)


def code_weight(
    linear: LinearNode, precision: Precision, given: Sequence[float] | None = None
) -> CodedWeight:
    """Choose the scales of a weight, unless they are `given` already.

    Raises:
        BadInput: it holds NaN or infinite values.
    """
    if given is not None:
        return CodedWeight(linear, precision, np.array(given, np.float32), None)
    rows = _rows(linear, precision)
    with np.errstate(all="ignore"):
        finite = np.isfinite(rows.sum(dtype=np.float64))
    if not finite and not np.isfinite(rows).all():
        raise BadInput(
            "the weight holds NaN or infinite values",
            where=Where(module=str(linear.weight.name)),
            hint="the source's file is damaged, or was written by a training that diverged",
        )
    coded: CodedRows = quantise_integers(rows, _FORMS[precision.weights])
    zeros = None if coded.zeros is None else coded.zeros.reshape(-1)
    return CodedWeight(linear, precision, coded.scales.reshape(-1), zeros)


def put_weight(scope: Scope, weight: CodedWeight, name: str) -> ir.Value:
    """Write a weight's codes and scales, and return the float value that they stand for.

    Zero points are always written out: without them HTP takes codes of int4 for unsigned.
    """
    channels = () if weight.axis is None else weight.scales.shape
    codes = scope.tensor(weight.codes(f"{name}.codes"))
    scales = scope.constant(f"{name}.scale", weight.scales.reshape(channels))
    zeros = np.zeros(channels, weight.dtype.numpy())
    if weight.zeros is not None:
        zeros = weight.zeros.reshape(channels)
    zero = scope.constant(f"{name}.zero_point", zeros)
    back = new_value(f"{name}.dequantised", dims_of(weight.linear.weight))
    # Of one scale the axis says nothing.
    scope.emit_many("DequantizeLinear", [codes, scales, zero], [back], axis=weight.axis or 0)
    return back


def put_bias(
    scope: Scope, bias: np.ndarray, weight: CodedWeight, input_scale: float, name: str
) -> ir.Value:
    """Write a bias [channels] as int32 with the scales of the products that it is added to, and
    return the float value."""
    scales = weight.scales * np.float64(input_scale)
    return put_integers(scope, bias, scales if scales.size == bias.size else scales[0], name)


def put_integers(
    scope: Scope, numbers: np.ndarray, scale: np.ndarray | float, name: str
) -> ir.Value:
    """Write numbers [n] as int32 with one scale or n, and return the float value."""
    scales = np.asarray(scale, np.float64).astype(np.float32)
    scales = not_zero(scales.reshape(()) if scales.size == 1 else scales)
    integers = np.clip(np.rint(numbers / scales.astype(np.float64)), -_LARGEST_BIAS, _LARGEST_BIAS)
    codes = scope.constant(f"{name}.codes", integers.astype(np.int32))
    values = scope.constant(f"{name}.scale", np.asarray(scales))
    zero = scope.constant(f"{name}.zero_point", np.zeros(scales.shape, np.int32))
    back = new_value(f"{name}.dequantised", dims_of(codes))
    scope.emit_many("DequantizeLinear", [codes, values, zero], [back], axis=0)
    return back


def _rows(linear: LinearNode, precision: Precision) -> np.ndarray:
    """Return a weight as rows that have a scale each, float32 [scales, n]."""
    tensor = linear.weight.const_value
    assert tensor is not None
    array = tensor.numpy()
    return linear.rows(array) if precision.per_channel else array.astype(np.float32).reshape(1, -1)
