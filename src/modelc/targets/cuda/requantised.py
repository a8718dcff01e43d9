"""Which codes of a source were not kept, and how far the new ones are from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from modelc.ir.packing.row_matrix import RowTensor


def requantised(weights: Mapping[str, ir.TensorProtocol]) -> dict[str, Any]:
    """Return weight -> form before and after and the relative error of rounding."""
    changed: dict[str, Any] = {}
    for name, tensor in weights.items():
        if not isinstance(tensor, RowTensor) or tensor.part != "codes":
            continue
        was = tensor.matrix.rounded()
        if was and (error := tensor.matrix.relative_error()):
            changed[name.rpartition(".")[0]] = {
                "from": was,
                "to": str(tensor.matrix.form),
                "relative_error": float(f"{error:.4g}"),
            }
    return changed
