"""Stored weights as `onnx_ir` tensors, whose bytes stay in the GGUF or safetensors file in the
format they have there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from modelc.ir.stored import StoredMatrix, tensor_shape


class StoredWeight(ir.LazyTensor):
    """An `onnx_ir` tensor over a `StoredMatrix`; float32 to all who read it, never cached."""

    def __init__(self, source: StoredMatrix, name: str | None = None) -> None:
        super().__init__(
            lambda: ir.Tensor(np.ascontiguousarray(source.decode())),
            dtype=ir.DataType.FLOAT,
            shape=ir.Shape(tensor_shape(source)),
            name=name,
        )
        self.source = source

    def __repr__(self) -> str:
        return f"StoredWeight({self.source!r}, name={self.name!r})"


class DerivedWeight(ir.LazyTensor):
    """A tensor made of stored matrices, computed each time it is read, so never more than one of
    them is in memory. `how` names the computation and its options; with the sources it is the
    tensor's identity in the text form and in fingerprints."""

    def __init__(
        self,
        sources: Sequence[StoredMatrix],
        how: str,
        make: Callable[[], np.ndarray],
        dtype: ir.DataType,
        shape: Sequence[int],
        name: str | None = None,
    ) -> None:
        super().__init__(
            lambda: ir.Tensor(np.ascontiguousarray(make()), dtype=dtype),
            dtype=dtype,
            shape=ir.Shape(shape),
            name=name,
        )
        self.sources = tuple(sources)
        self.how = how

    def __repr__(self) -> str:
        return f"DerivedWeight({self.how!r} of {self.sources!r}, name={self.name!r})"
