"""Compiles kernels ahead of time: cubins, and what launching them takes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modelc.errors import BadInput, Missing, ToolFailed, Where
from modelc.process import run_worker
from modelc.targets.cuda.gpus import ARCHES as ARCHES
from modelc.targets.cuda.gpus import SHARED_BYTES
from modelc.targets.cuda.variant import Variant

_SECONDS: Final = 120.0  # of one kernel, at most
_AT_ONCE: Final = 16  # kernels of one child, so that progress shows


@dataclass(frozen=True)
class Cubin:
    """A compiled variant.

    Attributes:
        entry: name of the function in it.
        warps: of 32 threads, in a block.
        shared: bytes of dynamic shared memory.
        scratch: bytes of global scratch that a block wants.
    """

    path: Path
    entry: str
    warps: int
    shared: int
    scratch: int


def compile_variants(
    variants: Sequence[Variant],
    arch: int,
    folder: Path,
    *,
    workdir: Path,
    progress: Callable[[float], None] = lambda done: None,
) -> dict[str, Cubin]:
    """Compile variants for one architecture into `folder`, in child processes.

    Returns the cubins by the variants' keys. The same variants give the same bytes.

    Args:
        progress: called with the fraction done.

    Raises:
        BadInput: a kernel needs a later architecture.
        Missing: Triton isn't installed.
        ToolFailed: the compiler failed; its words are in the message.
    """
    check_triton()
    for variant in variants:
        if variant.row.since > arch:
            raise BadInput(
                f"{variant.kernel} needs sm{variant.row.since}, which sm{arch} is not",
                hint="leave weights in FP8 out, or the architecture",
            )
    folder.mkdir(parents=True, exist_ok=True)
    cubins: dict[str, Cubin] = {}
    for first in range(0, len(variants), _AT_ONCE):
        progress(first / len(variants))
        cubins |= _compile(variants[first : first + _AT_ONCE], arch, folder, workdir)
    return cubins


def _compile(
    variants: Sequence[Variant], arch: int, folder: Path, workdir: Path
) -> dict[str, Cubin]:
    with tempfile.TemporaryDirectory(prefix="triton-", dir=workdir) as cache:
        reply = run_worker(
            "modelc.targets.cuda.aot_worker",
            {
                "variants": [variant.document() for variant in variants],
                "arch": arch,
                "folder": str(folder.resolve()),
                "cache": cache,
            },
            workdir=workdir,
            timeout_s=_SECONDS * max(len(variants), 1),
            where=Where(step="kernels", graph=f"sm{arch}"),
        )
    return {key: Cubin(folder / f"{key}.cubin", **facts) for key, facts in reply["facts"].items()}


def check_shared(cubins: Mapping[str, Cubin], arch: int) -> None:
    """Check that every kernel can be launched.

    Raises:
        ToolFailed: one takes more shared memory than a block can have.
    """
    for key, cubin in cubins.items():
        if cubin.shared > SHARED_BYTES[arch]:
            raise ToolFailed(
                f"{key} takes {cubin.shared} bytes of shared memory; a block of sm{arch} has "
                f"{SHARED_BYTES[arch]}",
                where=Where(step="kernels", graph=f"sm{arch}"),
            )


def check_triton() -> None:
    """Raise Missing if Triton, which compiles kernels, is not installed."""
    from importlib.util import find_spec

    if find_spec("triton") is None:
        raise Missing("Triton is not installed", hint="pip install 'modelc[cuda]'")
