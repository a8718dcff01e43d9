"""Element types of a launch plan, as torch calls them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import torch

TORCH_TYPES: Final[Mapping[str, str]] = {
    "bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "i32": "int32", "i64": "int64",
    "u8": "uint8", "e4m3": "float8_e4m3fn",
}  # fmt: skip


def torch_type(name: str) -> torch.dtype:
    """Return torch's type of a plan's element type."""
    import torch

    found: torch.dtype = getattr(torch, TORCH_TYPES[name])
    return found
