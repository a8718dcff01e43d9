"""The tensors of one quantised module, taken one by one and checked as they are."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from modelc.errors import BadInput, Where
from modelc.frontends.stored import StoredTensor
from modelc.ir.coded import CodedMatrix, StoredArray
from modelc.ir.packing.kinds import Form

ARRAY_TYPES: Final = {
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I8": "int8",
    "U8": "uint8",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
}
"""safetensors' names as `StoredArray` has them."""

SCALES: Final = ("F32", "F16", "BF16")

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Module:
    """What lies under a module's path.

    Attributes:
        path: "model.layers.0.self_attn.q_proj".
        tensors: by the rest of their names; those that are taken leave it.
    """

    path: str
    tensors: dict[str, StoredTensor]

    def has(self, name: str) -> bool:
        return name in self.tensors

    def take(self, name: str, types: Collection[str], shape: Shape | None = None) -> StoredArray:
        """Take a tensor out.

        Args:
            types: those that it may have, as safetensors names them.
            shape: what it must be; None in it stands for any size above 0.

        Raises:
            BadInput: it is absent, or of another type or shape.
        """
        tensor = self.tensors.pop(name, None)
        if tensor is None:
            raise BadInput(
                f"the tensor {self.path}.{name} is missing",
                where=Where(module=self.path),
                hint="the folder is incomplete, or its quantization_config is of another model",
            )
        if tensor.format not in types:
            raise self.bad(tensor, f"it must be {' or '.join(types)}")
        fits = shape is None or (
            len(shape) == len(tensor.shape)
            and all(a in (None, b) for a, b in zip(shape, tensor.shape, strict=True))
        )
        if not fits or not all(tensor.shape):
            raise self.bad(tensor, f"it must have the shape {_shown(shape)}")
        return StoredArray(tensor.path, tensor.offset, ARRAY_TYPES[tensor.format], tensor.shape)

    def drop(self, *names: str) -> None:
        """Leave tensors out, if they are there."""
        for name in names:
            self.tensors.pop(name, None)

    def bad(self, tensor: StoredTensor | StoredArray, hint: str) -> BadInput:
        """Return (not raise) the error for a tensor that can't be what it is."""
        kind = tensor.format if isinstance(tensor, StoredTensor) else tensor.dtype
        name = tensor.name if isinstance(tensor, StoredTensor) else f"a part of {self.path}"
        return BadInput(
            f"tensor {name!r} is {kind} {list(tensor.shape)}",
            where=Where(module=self.path, path=str(tensor.path)),
            hint=hint,
        )

    def wrong(self, what: str, hint: str) -> BadInput:
        """Return (not raise) the error for tensors that don't fit each other."""
        return BadInput(f"{self.path}: {what}", where=Where(module=self.path), hint=hint)

    def matrix(
        self, layout: str, shape: tuple[int, int], form: Form | None, **parts: StoredArray | None
    ) -> CodedMatrix:
        """Return the weight; of its parts `codes` is one."""
        found = tuple((name, part) for name, part in parts.items() if part is not None)
        codes = dict(found)["codes"]
        return CodedMatrix(codes.path, codes.offset, layout, shape, form=form, parts=found)


def _shown(shape: Shape | None) -> str:
    sizes = ["any" if size is None else str(size) for size in shape or ()]
    return f"[{', '.join(sizes)}]"
