"""Tensors inside of an ONNX file: do they hold what their sizes say?"""

from __future__ import annotations

from typing import Final

import onnx
import onnx_ir as ir

from modelc.errors import BadInput, Where
from modelc.ir.onnx_file import is_outside

LARGEST: Final = 1 << 31
"""Elements of the largest tensor that is taken for a real one."""

_INT32: Final = frozenset(
    {
        ir.DataType.INT32, ir.DataType.INT16, ir.DataType.INT8, ir.DataType.UINT16,
        ir.DataType.UINT8, ir.DataType.BOOL, ir.DataType.FLOAT16, ir.DataType.BFLOAT16,
        ir.DataType.FLOAT8E4M3FN, ir.DataType.FLOAT8E4M3FNUZ, ir.DataType.FLOAT8E5M2,
        ir.DataType.FLOAT8E5M2FNUZ, ir.DataType.FLOAT8E8M0,
    }
)  # fmt: skip


def check_contents(tensor: onnx.TensorProto, where: Where) -> None:
    """Check type and sizes of a tensor, and that it has so much data, if they are in the file.

    Raises:
        BadInput: it isn't so.
    """
    try:
        dtype = ir.DataType(tensor.data_type)
        count = element_count(tensor.dims)
        sound = dtype != ir.DataType.UNDEFINED and not tensor.HasField("segment")
        if sound and not is_outside(tensor):
            sound = _holds(tensor, dtype, count)
    except ValueError:
        sound = False
    if not sound:
        raise BadInput(
            f"tensor {tensor.name!r} doesn't hold what its type and sizes {list(tensor.dims)} say",
            where=where,
            hint="is the file whole? what exported it must export it again",
        )


def element_count(sizes: object) -> int:
    """Return the product of sizes.

    Raises:
        ValueError: one is negative, or the product is out of all proportion.
    """
    count = 1
    for size in sizes:  # type: ignore[attr-defined]
        if size < 0:
            raise ValueError("a negative size")
        count *= size
    if count > LARGEST:
        raise ValueError("too large")
    return count


def _holds(tensor: onnx.TensorProto, dtype: ir.DataType, count: int) -> bool:
    if dtype == ir.DataType.STRING:
        return len(tensor.string_data) == count
    if tensor.HasField("raw_data"):
        return len(tensor.raw_data) == -(-count * dtype.bitwidth // 8)
    if dtype in (ir.DataType.FLOAT, ir.DataType.COMPLEX64):
        return len(tensor.float_data) == count * (dtype.bitwidth // 32)
    if dtype in (ir.DataType.DOUBLE, ir.DataType.COMPLEX128):
        return len(tensor.double_data) == count * (dtype.bitwidth // 64)
    if dtype == ir.DataType.INT64:
        return len(tensor.int64_data) == count
    if dtype in (ir.DataType.UINT32, ir.DataType.UINT64):
        return len(tensor.uint64_data) == count
    if dtype in _INT32:
        return len(tensor.int32_data) == count
    packed = 8 // dtype.bitwidth  # integers of 2 and 4 bits, so many in an entry
    return len(tensor.int32_data) == -(-count // packed)
