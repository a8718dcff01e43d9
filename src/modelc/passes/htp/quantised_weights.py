"""Initialisers as integer codes; those of stored weights stay lazy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from modelc.errors import BadInput, ModelcError, Where
from modelc.ir.emit import Scope
from modelc.ir.encodings import Encoding, IntegerType, from_range
from modelc.ir.packing.given_scales import GivenScales
from modelc.ir.packing.integer_matrix import IntegerMatrix
from modelc.ir.packing.kinds import MATRIX_KINDS
from modelc.ir.packing.whole import whole_codes, whole_encoding
from modelc.ir.weights import StoredWeight
from modelc.passes.htp.qdq import dequantise, dequantise_blocks, dequantise_channels


def kind_of(module: str, kinds: Mapping[str, str]) -> str:
    """Return the kind of the longest module path that `module` is or lies in ("" has all in it).

    Raises:
        ModelcError: there is none.
    """
    path = module
    while path not in kinds:
        if not path:
            raise ModelcError("nothing says how its weight is stored", where=Where(module=module))
        path = path.rpartition(".")[0]
    return kinds[path]


def weight_encoding(value: ir.Value, dtype: IntegerType) -> Encoding:
    """Return one encoding for a whole initialiser.

    Raises:
        BadInput: it holds NaN or infinite values.
    """
    tensor = value.const_value
    assert tensor is not None
    if isinstance(tensor, StoredWeight):
        try:
            return whole_encoding(tensor.source, dtype)
        except BadInput as error:
            error.where = Where(module=str(value.name))
            raise
    numbers = tensor.numpy()
    return from_range(float(numbers.min()), float(numbers.max()), dtype)


def table_encoding(value: ir.Value, dtype: IntegerType, known: Mapping[str, Encoding]) -> Encoding:
    """Return the encoding of an embedding's table: the known one of its name, if that is of the
    type, or one that covers the table."""
    found = known.get(str(value.name))
    return found if found and found.dtype == dtype else weight_encoding(value, dtype)


def as_whole(scope: Scope, value: ir.Value, encoding: Encoding) -> ir.Value:
    """Return an initialiser as codes of one encoding and back."""
    name, tensor = str(value.name), value.const_value
    assert tensor is not None
    if isinstance(tensor, StoredWeight):
        codes: ir.TensorProtocol = whole_codes(tensor.source, encoding, f"{name}.codes")
    else:
        codes = ir.Tensor(encoding.quantise(tensor.numpy()), name=f"{name}.codes")
    return dequantise(scope, scope.tensor(codes), encoding, name)


def as_matrix(
    scope: Scope, value: ir.Value, kind: str, given: GivenScales | None = None
) -> ir.Value:
    """Return a matrix [inputs, outputs] as codes of a kind of `MATRIX_KINDS` and back; `given` are
    scales of the matrix that it is some columns of, which count if they are of that kind.

    Zero points are always written out, though all are 0: without them HTP's compiler takes the
    codes of int4 for unsigned.

    Raises:
        BadInput: the inputs are no whole number of blocks.
        Damaged: the given scales are of another matrix.
    """
    name, tensor, form = str(value.name), value.const_value, MATRIX_KINDS[kind]
    assert isinstance(tensor, StoredWeight) and tensor.source.transposed
    inputs = tensor.source.shape[-1]
    if form.block and inputs % form.block:
        raise BadInput(
            f"{inputs} inputs are no whole number of blocks of {form.block}",
            where=Where(module=scope.module),
            hint=f"give this module another kind of weights than {kind}",
        )
    scales_of_part = given.of(tensor.source) if given and given.kind == kind else None
    matrix = IntegerMatrix(tensor.source, form, scales_of_part)
    codes = scope.tensor(matrix.codes(f"{name}.codes"))
    scales = scope.tensor(matrix.scales(f"{name}.scale"))
    integer = form.dtype.numpy()
    if not form.block:
        zeros = _zeros(scope, (matrix.channels,), integer)
        return dequantise_channels(scope, codes, scales, zeros, name)
    sizes = (matrix.blocks, matrix.channels)
    if form.scale_bits:
        multiples = scope.tensor(matrix.multiples(f"{name}.scale.codes"))
        zeros = _zeros(scope, (matrix.channels,), np.dtype(np.uint8))
        scales = dequantise_channels(scope, multiples, scales, zeros, f"{name}.scale")
    zeros = _zeros(scope, sizes, integer)
    return dequantise_blocks(scope, codes, scales, zeros, name, form.block)


def _zeros(scope: Scope, sizes: tuple[int, ...], dtype: np.dtype) -> ir.Value:
    """Zero points, one initialiser for all matrices of these sizes."""
    name = f"zero_points.{dtype.name}.{'x'.join(map(str, sizes))}"
    return scope.constant(name, np.zeros(sizes, dtype))
