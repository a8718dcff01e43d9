"""Writes a lowered graph for ONNX Runtime, and says what was rounded on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import onnx_ir as ir

from modelc.ir.packing.form_matrix import FormTensor
from modelc.ir.packing.matrix import PackedTensor
from modelc.ir.write import write_model

MODEL: Final = "model.onnx"
REQUANTISED: Final = "requantised.json"


def emit_cpu(model: ir.Model, out_dir: Path) -> None:
    """Write model.onnx, model.onnx.data and, if blocks of the source were not kept as they are,
    requantised.json: weight -> form before and after and the relative error of rounding.
    """
    requantised: dict[str, Any] = {}

    def note(name: str, tensor: ir.TensorProtocol) -> None:
        if not isinstance(tensor, PackedTensor | FormTensor) or tensor.part != "codes":
            return
        was = tensor.matrix.rounded()
        if was and (error := tensor.matrix.relative_error()):
            requantised[name.rpartition(".")[0]] = {
                "from": was,
                **_made(tensor),
                "relative_error": float(f"{error:.4g}"),
            }

    write_model(model, out_dir / MODEL, written=note)
    if requantised:
        text = json.dumps(requantised, indent=1, sort_keys=True)
        (out_dir / REQUANTISED).write_text(text + "\n")


def _made(tensor: PackedTensor | FormTensor) -> dict[str, Any]:
    if isinstance(tensor, FormTensor):
        return {"to": str(tensor.matrix.form)}
    layout = tensor.matrix.packing.layout
    return {"bits": layout.bits, "block_size": layout.block_size}
