"""Quantisation schemes as rows: how weights, activations and KV cache are stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from modelc.errors import BadInput, nearest
from modelc.ir.packing.kinds import MatrixKind, TableKind

Weights = Literal["float", "gguf", "q8_0", "q4_0"] | MatrixKind
Activations = Literal["float", "uint16"]
KvCache = Literal["float", "uint8", "uint16"]


@dataclass(frozen=True)
class Scheme:
    """One row.

    Attributes:
        weights: of the layers. `gguf` keeps the source's blocks; `q8_0`, `q4_0` are GGML's blocks
            of 32; the others are kinds of `ir.packing.kinds`.
        activations, kv: `float` means the target's own float type. A cache of uint16 is twice as
            large and no better: HTP's MatMul rounds its second operand, if it varies, to 8 bits.
        families: the target families that take the scheme, the first scheme of a family that
            fits the source is its default.
        head, embedding: kinds of the last matrix and of the table, where `weights` is one.
        min_sqnr_db, min_top1, max_perplexity_ratio: default thresholds of verification.
    """

    name: str
    weights: Weights
    activations: Activations
    kv: KvCache
    families: tuple[str, ...]
    min_sqnr_db: float
    min_top1: float
    max_perplexity_ratio: float
    head: MatrixKind = "w8"
    embedding: TableKind = "w16"


SCHEMES: Final[dict[str, Scheme]] = {
    row.name: row
    for row in (
        Scheme("gguf", "gguf", "float", "float", ("cpu",), 25.0, 0.90, 1.03),
        Scheme("fp32", "float", "float", "float", ("cpu",), 80.0, 0.99, 1.001),
        Scheme("q8_0", "q8_0", "float", "float", ("cpu",), 25.0, 0.90, 1.03),
        Scheme("q4_0", "q4_0", "float", "float", ("cpu",), 10.0, 0.70, 1.25),
        Scheme("fp16", "float", "float", "float", ("snapdragon",), 35.0, 0.95, 1.01),
        Scheme("w8a16", "w8", "uint16", "uint8", ("snapdragon",), 20.0, 0.90, 1.03),
        Scheme("w4a16", "w4", "uint16", "uint8", ("snapdragon",), 8.0, 0.60, 1.50),
        Scheme("w4a16_b32", "w4_b32", "uint16", "uint8", ("snapdragon",), 10.0, 0.70, 1.25),
        Scheme("w4a16_b64", "w4_b64", "uint16", "uint8", ("snapdragon",), 10.0, 0.70, 1.25),
        Scheme("w4a16_lpbq", "w4_lpbq", "uint16", "uint8", ("snapdragon",), 10.0, 0.70, 1.25),
    )
}


def find_scheme(name: str, family: str) -> Scheme:
    """Return the scheme called `name` that the target family takes.

    Raises:
        BadInput: unknown, or not taken by the family; the hint lists what is.
    """
    taken = [row.name for row in SCHEMES.values() if family in row.families]
    if name not in SCHEMES:
        raise BadInput(f"no quantisation scheme is called {name!r}", hint=nearest(name, taken))
    if name not in taken:
        raise BadInput(
            f"{family} targets do not take the scheme {name!r}", hint=f"known: {', '.join(taken)}"
        )
    return SCHEMES[name]


def default_scheme(family: str, source_kind: str) -> str:
    """Return the scheme used when none is asked for: a GGUF keeps its own blocks on the CPU."""
    if family == "cpu":
        return "gguf" if source_kind == "gguf" else "q8_0"
    return "w8a16"
