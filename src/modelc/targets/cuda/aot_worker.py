"""Worker: compiles kernels to cubins for one architecture, on a machine that needs no GPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from modelc.process import serve
from modelc.targets.cuda.gpus import FP8_SINCE
from modelc.targets.cuda.interpret import SWITCH, kernel_function
from modelc.targets.cuda.variant import Variant

ALIGNMENT: Final = 16
"""Bytes; of every tensor. Without being told, Triton copies 4 bytes at a time."""

_ENVIRONMENT: Final = {
    "TRITON_DISABLE_LINE_INFO": "1",  # it holds paths: the same kernel would differ by folder
    "TRITON_DEFAULT_FP_FUSION": "1",
}
_TYPES: Final = {
    "bf16": "bf16", "fp16": "fp16", "fp32": "fp32", "i32": "i32", "i64": "i64", "u8": "u8",
    "e4m3": "fp8e4nv",
}  # fmt: skip


def handle(job: dict[str, Any]) -> dict[str, Any]:
    """Compile `job["variants"]` (documents) for `job["arch"]` (90, ...) into `job["folder"]`.

    Returns the facts that launching needs, by variant: entry, warps, shared memory and scratch.
    """
    # Before Triton is imported: it compiles then, and leaves nothing behind.
    os.environ.pop(SWITCH, None)
    os.environ |= {**_ENVIRONMENT, "TRITON_CACHE_DIR": job["cache"]}
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    target, folder = GPUTarget("cuda", job["arch"], 32), Path(job["folder"])
    facts = {}
    for document in job["variants"]:
        variant = Variant.from_document(document)
        signature, fixed, aligned = _signature(variant, job["arch"])
        source = ASTSource(
            fn=kernel_function(variant.kernel),
            signature=signature,
            constexprs=fixed,
            attrs={(place,): [["tt.divisibility", ALIGNMENT]] for place in aligned},
        )
        options = {"num_warps": variant.tile.warps, "num_stages": variant.tile.stages}
        compiled = triton.compile(source, target=target, options=options)
        (folder / f"{variant.key}.cubin").write_bytes(compiled.asm["cubin"])
        metadata = compiled.metadata
        facts[variant.key] = {
            "entry": metadata.name,
            "warps": metadata.num_warps,
            "shared": metadata.shared,
            "scratch": metadata.global_scratch_size,
        }
    return {"facts": facts, "triton": triton.__version__}


def _signature(variant: Variant, arch: int) -> tuple[dict[str, str], dict[str, Any], list[int]]:
    """Return types by parameter, the values of what is fixed, and which places are pointers."""
    row = variant.row
    signature: dict[str, str] = {}
    fixed: dict[str, Any] = {}
    for tensor in row.tensors:
        given = variant.types.get(tensor.name)
        if given == "e4m3" and arch < FP8_SINCE:
            given = "u8"  # kernels that read a cache make numbers of its bytes themselves there
        signature[tensor.name] = f"*{_TYPES[given]}" if given else "constexpr"
        if not given:
            fixed[tensor.name] = None
    signature |= dict.fromkeys(row.sizes, "i32")
    for name in (*row.constants, *row.tile_names):
        signature[name] = "constexpr"
        fixed[name] = {**variant.constants, **variant.tile.values}[name]
    aligned = [place for place, kind in enumerate(signature.values()) if kind.startswith("*")]
    return signature, fixed, aligned


if __name__ == "__main__":
    serve(handle)
