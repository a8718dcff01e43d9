"""Holds kernels against their references, in Triton's interpreter, and compiles them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from modelc.targets.cuda.aot import ARCHES, compile_variants
from modelc.targets.cuda.interpret import interpret
from modelc.targets.cuda.kernel import Constants, Tile
from modelc.targets.cuda.kernel_table import KERNELS
from modelc.targets.cuda.variant import Variant

TYPES = {
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.float32: "fp32",
    torch.int32: "i32",
    torch.int64: "i64",
    torch.uint8: "u8",
    torch.float8_e4m3fn: "e4m3",
}

Tensors = Mapping[str, torch.Tensor | None]


def variant_of(
    name: str, tensors: Tensors, constants: Constants, tile: Tile | None = None
) -> Variant:
    """The variant that takes tensors of these types."""
    types = {key: TYPES[tensor.dtype] for key, tensor in tensors.items() if tensor is not None}
    return Variant(name, types, constants, tile or KERNELS[name].tile(constants, 90))


def run_both(
    name: str,
    tensors: Tensors,
    constants: Constants,
    sizes: Mapping[str, int],
    tile: Tile | None = None,
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return what the kernel in the interpreter and what the reference wrote, by tensor. What they
    don't write must be as it was."""
    row = KERNELS[name]
    results = []
    for reference in (False, True):
        copies: dict[str, Any] = {
            key: None if tensor is None else tensor.clone() for key, tensor in tensors.items()
        }
        if reference:
            reference_of(name)(**{t.name: copies.get(t.name) for t in row.tensors}, **constants)
        else:
            interpret(variant_of(name, tensors, constants, tile), copies, sizes)
        for tensor in row.tensors:
            before = tensors.get(tensor.name)
            if before is not None and not (tensor.written or tensor.updated):
                assert torch.equal(before.view(torch.uint8), copies[tensor.name].view(torch.uint8))
        results.append(
            {t.name: copies[t.name] for t in row.tensors
             if (t.written or t.updated) and copies.get(t.name) is not None}
        )  # fmt: skip
    return results[0], results[1]


def reference_of(name: str) -> Any:
    """A kernel's reference: a function of its tensors and constants by name."""
    return getattr(importlib.import_module(f"modelc.targets.cuda.reference.{name}"), name)


def close(measured: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    """Hold a result to `tolerance` of the largest magnitude that was expected."""
    difference = (measured.float() - expected.float()).abs().max().item()
    scale = expected.float().abs().max().item()
    assert difference <= tolerance * max(scale, 1e-6), f"off by {difference:.3g} of {scale:.3g}"


def compile_at_ends(variants: list[Variant], folder: Path, since: int = 80) -> None:
    """Compile variants for the oldest architecture that has what they use and for the newest: what
    multiplies no matrices is the same instructions on those between."""
    for arch in (since, max(ARCHES)):
        cubins = compile_variants(variants, arch, folder / f"sm{arch}", workdir=folder)
        for variant in variants:
            assert cubins[variant.key].path.read_bytes()[:4] == b"\x7fELF"


def is_worth_compiling(name: str, constants: Constants, arch: int) -> bool:
    """Whether an architecture says something of a kernel that the oldest and the newest with it
    don't: its tile is another one, or it multiplies by tensor cores, which differ."""
    row = KERNELS[name]
    ends = (row.since, max(ARCHES))
    tile = row.tile(constants, arch)
    multiplies = not {"GROUP", "GROUP_M"}.isdisjoint(tile.values)  # an order of blocks of a product
    return arch >= row.since and (
        multiplies or arch in ends or tile not in [row.tile(constants, end) for end in ends]
    )
