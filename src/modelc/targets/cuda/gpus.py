"""GPUs that kernels are compiled for, and what they have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from modelc.errors import BadInput, nearest

PREFIX: Final = "cuda:"
FP8_SINCE: Final = 89
"""The first architecture with FP8."""


@dataclass(frozen=True)
class Gpu:
    """One row. The first row of an architecture stands for it where nothing else is said.

    Attributes:
        arch: compute capability: 90 is sm90.
        memory: bytes.
        bandwidth: of memory, bytes per second, as the vendor says.
    """

    name: str
    arch: int
    memory: int
    bandwidth: float
    marketing_name: str


_GB: Final = 10**9

GPUS: Final[Mapping[str, Gpu]] = {
    row.name: row
    for row in (
        Gpu("a100", 80, 80 * _GB, 2.0e12, "NVIDIA A100 80 GB"),
        Gpu("a100-40gb", 80, 40 * _GB, 1.55e12, "NVIDIA A100 40 GB"),
        Gpu("l40s", 89, 48 * _GB, 0.86e12, "NVIDIA L40S"),
        Gpu("l4", 89, 24 * _GB, 0.30e12, "NVIDIA L4"),
        Gpu("rtx-4090", 89, 24 * _GB, 1.01e12, "NVIDIA GeForce RTX 4090"),
        Gpu("h100", 90, 80 * _GB, 3.35e12, "NVIDIA H100 SXM"),
        Gpu("h200", 90, 141 * _GB, 4.8e12, "NVIDIA H200"),
        Gpu("b200", 100, 180 * _GB, 7.7e12, "NVIDIA B200"),
    )
}
ARCHES: Final = tuple(dict.fromkeys(row.arch for row in GPUS.values()))
"""Compute capabilities that kernels are compiled for."""

SHARED_BYTES: Final[Mapping[int, int]] = {
    80: 163 << 10,
    89: 99 << 10,
    90: 227 << 10,
    100: 227 << 10,
}
"""Shared memory that one block can have, by architecture (CUDA programming guide, table of compute
capabilities)."""


def find_gpus(text: str) -> tuple[Gpu, ...]:
    """Return the GPUs that "sm80,sm90" or "h100" names: one of each architecture, in their order.

    Raises:
        BadInput: there is none of a name.
    """
    found: dict[int, Gpu] = {}
    for name in text.split(","):
        gpu = _find(name.strip().lower())
        found.setdefault(gpu.arch, gpu)
    return tuple(found[arch] for arch in sorted(found))


def _find(name: str) -> Gpu:
    if name in GPUS:
        return GPUS[name]
    for gpu in GPUS.values():
        if name in (f"sm{gpu.arch}", f"sm_{gpu.arch}", f"sm{gpu.arch}a", f"sm_{gpu.arch}a"):
            return gpu
    known = [*dict.fromkeys(f"sm{gpu.arch}" for gpu in GPUS.values()), *GPUS]
    raise BadInput(
        f"no kernels are made for {PREFIX}{name}",
        hint=nearest(f"{PREFIX}{name}", [f"{PREFIX}{one}" for one in known]),
    )
