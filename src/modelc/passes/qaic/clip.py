"""Constants within the range of float16, in which the card computes."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import ClassVar, Final

import numpy as np
import onnx_ir as ir

from modelc.ir.legality import Stage
from modelc.ir.stored import MadeMatrix, StoredMatrix
from modelc.ir.weights import StoredWeight
from modelc.passes.base import Pass

HALF_MAX: Final = float(np.finfo(np.float16).max)
HALF_MIN: Final = float(np.finfo(np.float16).min)


@dataclass(frozen=True)
class HalfRange(MadeMatrix):
    """A stored weight whose numbers are clipped to float16's range when it is decoded."""

    source: StoredMatrix = field(kw_only=True)

    def decode(self) -> np.ndarray:
        return in_range(self.source.decode())

    def decode_rows(self, rows: np.ndarray) -> np.ndarray:
        return in_range(self.source.decode_rows(rows))


@dataclass(frozen=True)
class ClipToHalf(Pass):
    """Floats beyond +-65504 would become infinite; weights are looked through when written."""

    name: ClassVar[str] = "clip_to_half"
    before: ClassVar[Stage] = "qaic"
    after: ClassVar[Stage] = "qaic"

    def apply(self, model: ir.Model) -> ir.Model:
        for value in model.graph.initializers.values():
            tensor = value.const_value
            if tensor is None or tensor.dtype != ir.DataType.FLOAT:
                continue
            if isinstance(tensor, StoredWeight):
                if tensor.source.format != "F16":
                    value.const_value = StoredWeight(_clipped(tensor.source), value.name)
            elif not isinstance(tensor, ir.LazyTensor):  # what adapters add is small
                numbers = tensor.numpy()
                if np.abs(numbers).max(initial=0.0) > HALF_MAX:
                    value.const_value = ir.Tensor(in_range(numbers), name=value.name)
        return model


def in_range(numbers: np.ndarray) -> np.ndarray:
    """Return float32 numbers within float16's range, themselves if they are."""
    if numbers.size and (numbers.max() > HALF_MAX or numbers.min() < HALF_MIN):
        clipped: np.ndarray = np.clip(numbers, np.float32(HALF_MIN), np.float32(HALF_MAX))
        return clipped
    return numbers


def _clipped(source: StoredMatrix) -> HalfRange:
    same = {row.name: getattr(source, row.name) for row in fields(StoredMatrix)}
    return HalfRange(**same, source=source)
