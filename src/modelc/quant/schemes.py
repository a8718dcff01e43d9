"""Quantisation schemes as rows: how weights, activations and KV cache are stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from modelc.errors import BadInput, nearest
from modelc.ir.packing.kinds import KINDS, MATRIX_KINDS, Form, TableKind
from modelc.quant.aliases import ALIASES

Activations = Literal[
    "float", "uint16", "int8_dynamic", "e4m3_dynamic", "e5m2_dynamic", "e4m3_static"
]  # fmt: skip
KvCache = Literal["float", "uint8", "uint16"]


@dataclass(frozen=True)
class Scheme:
    """One row.

    Attributes:
        weights: of the layers. `gguf` keeps the source's blocks; `q8_0`, `q4_0` are GGML's blocks
            of 32; `float` leaves them; the others are kinds of `ir.packing.kinds`.
        activations, kv: `float` means the target's own float type. A cache of uint16 is twice as
            large and no better: HTP's MatMul rounds its second operand, if it varies, to 8 bits.
            `uint16` and `e4m3_static` have ranges that are calibrated; `..._dynamic` rounds what
            linear layers multiply by the largest magnitude of each token, `int8_dynamic` of each
            of its blocks.
        families: the target families that take the scheme, the first scheme of a family that
            fits the source is its default.
        min_sqnr_db, min_top1, max_perplexity_ratio: default thresholds of verification.
        head, embedding: kinds of the last matrix and of the table, where `weights` is one; a table
            without a kind stays as it is, and so does a head.
        act: what CUDA's kernels compute in, with float32 sums.
    """

    name: str
    weights: str
    activations: Activations
    kv: KvCache
    families: tuple[str, ...]
    min_sqnr_db: float
    min_top1: float
    max_perplexity_ratio: float
    head: str = "w8"
    embedding: TableKind | Literal[""] = ""
    act: Literal["", "bf16", "fp16"] = ""

    @property
    def has_kinds(self) -> bool:
        """Whether modules have kinds of weights, which overrides can change."""
        return self.weights in KINDS

    @property
    def kinds(self) -> Mapping[str, Form]:
        """The kinds of matrices that its families take."""
        return MATRIX_KINDS if "snapdragon" in self.families else KINDS

    @property
    def is_calibrated(self) -> bool:
        """Whether activations have ranges that are gathered beforehand."""
        return self.is_encoded or self.activations == "e4m3_static"

    @property
    def is_encoded(self) -> bool:
        """Whether activations are codes of encodings, one for each tensor."""
        return self.activations == "uint16"


_CPU: Final = ("cpu",)
_HTP: Final = ("snapdragon",)
# Thresholds of the CPU's kinds. Fewer bits than four need algorithms on most models.
_EIGHT: Final = (25.0, 0.90, 1.03)
_FLOATS: Final = (18.0, 0.85, 1.05)
_FOUR: Final = (10.0, 0.70, 1.25)
_FOUR_COARSE: Final = (8.0, 0.60, 1.50)
_THREE: Final = (5.0, 0.50, 1.60)
_TWO: Final = (3.0, 0.40, 2.00)


def _on_cpu(
    kind: str,
    thresholds: tuple[float, float, float],
    activations: Activations = "float",
    *,
    name: str = "",
    head: str = "w8",
) -> Scheme:
    return Scheme(name or kind, kind, activations, "float", _CPU, *thresholds, head=head)


def _on_htp(name: str, kind: str, thresholds: tuple[float, float, float]) -> Scheme:
    return Scheme(name, kind, "uint16", "uint8", _HTP, *thresholds, embedding="w16")


def _on_cuda(
    name: str,
    kind: str,
    act: Literal["bf16", "fp16"],
    thresholds: tuple[float, float, float],
    *,
    activations: Activations = "float",
    head: str = "",
) -> Scheme:
    return Scheme(name, kind, activations, "float", ("cuda",), *thresholds, head=head, act=act)


SCHEMES: Final[Mapping[str, Scheme]] = {
    row.name: row
    for row in (
        Scheme("gguf", "gguf", "int8_dynamic", "float", _CPU, *_EIGHT),
        Scheme("fp32", "float", "float", "float", _CPU, 80.0, 0.99, 1.001),
        Scheme("q8_0", "q8_0", "int8_dynamic", "float", _CPU, *_EIGHT),
        Scheme("q4_0", "q4_0", "int8_dynamic", "float", _CPU, 10.0, 0.70, 1.25),
        # Integers on the CPU: w around 0, u with zeros; per channel, or in blocks of so many.
        _on_cpu("w8", _EIGHT),
        _on_cpu("w8_tensor", _EIGHT, head="w8_tensor"),
        _on_cpu("w8_b32", _EIGHT, head="w8_b32"),
        _on_cpu("w8_b128", _EIGHT, head="w8_b128"),
        _on_cpu("u8", _EIGHT, head="u8"),
        _on_cpu("u8_b32", _EIGHT, head="u8_b32"),
        _on_cpu("w4", _FOUR_COARSE),
        _on_cpu("w4_b16", _FOUR),
        _on_cpu("w4_b32", _FOUR),
        _on_cpu("w4_b64", _FOUR),
        _on_cpu("w4_b128", _FOUR),
        _on_cpu("w4_lpbq", _FOUR),
        _on_cpu("u4", _FOUR_COARSE),
        _on_cpu("u4_b16", _FOUR),
        _on_cpu("u4_b32", _FOUR),
        _on_cpu("u4_b64", _FOUR),
        _on_cpu("u4_b128", _FOUR),
        # Codes of 3 bits take 4 in the file. Those of 8 bits, and blocks of 40, have no kernels
        # for float activations: they become float32 in memory.
        _on_cpu("w3", _THREE),
        _on_cpu("w3_b16", _THREE),
        _on_cpu("w3_b32", _THREE),
        _on_cpu("w3_b40", _THREE),
        _on_cpu("w3_b64", _THREE),
        _on_cpu("w3_b128", _THREE),
        _on_cpu("u3_b32", _THREE),
        _on_cpu("u3_b64", _THREE),
        _on_cpu("u3_b128", _THREE),
        # Activations rounded to int8, for which the CPU has its fastest kernels; for 2 bits it has
        # no others worth the name, and these only from blocks of 32 up.
        _on_cpu("w8", _EIGHT, "int8_dynamic", name="w8_a8"),
        _on_cpu("w8_b32", _EIGHT, "int8_dynamic", name="w8_b32_a8", head="w8_b32"),
        _on_cpu("w4", _FOUR_COARSE, "int8_dynamic", name="w4_a8"),
        _on_cpu("w4_b32", _FOUR, "int8_dynamic", name="w4_b32_a8"),
        _on_cpu("w4_b128", _FOUR, "int8_dynamic", name="w4_b128_a8"),
        _on_cpu("u4_b32", _FOUR, "int8_dynamic", name="u4_b32_a8"),
        _on_cpu("u4_b128", _FOUR, "int8_dynamic", name="u4_b128_a8"),
        _on_cpu("w2_b32", _TWO, "int8_dynamic", name="w2_b32_a8"),
        _on_cpu("u2_b32", _TWO, "int8_dynamic", name="u2_b32_a8"),
        _on_cpu("u2_b64", _TWO, "int8_dynamic", name="u2_b64_a8"),
        _on_cpu("w4_b32", _FOUR, name="w4_b32_h16", head="w16"),
        # Small floats on the CPU: few bits in the file, float32 in memory.
        _on_cpu("e4m3", _FLOATS, head="e4m3"),
        _on_cpu("e4m3_channel", _FLOATS, head="e4m3_channel"),
        _on_cpu("e4m3_b128", _FLOATS, head="e4m3_b128"),
        _on_cpu("e5m2", _FOUR, head="e5m2"),
        _on_cpu("e5m2_channel", _FOUR, head="e5m2_channel"),
        _on_cpu("e5m2_b128", _FOUR, head="e5m2_b128"),
        _on_cpu("e4m3", _FLOATS, "e4m3_dynamic", name="e4m3_e4m3", head="e4m3"),
        _on_cpu("e5m2", _FOUR, "e5m2_dynamic", name="e5m2_e5m2", head="e5m2"),
        _on_cpu("mxfp8", _FLOATS, head="mxfp8"),
        _on_cpu("mxfp6", _FLOATS, head="mxfp6"),
        _on_cpu("mxfp6_e3m2", _FOUR, head="mxfp6_e3m2"),
        _on_cpu("mxfp4", _FOUR, head="mxfp8"),
        Scheme(
            "fp16", "float", "float", "float", (*_HTP, "qaic", "cuda"), 35.0, 0.95, 1.01, act="fp16"
        ),
        _on_htp("w8a16", "w8", (20.0, 0.90, 1.03)),
        _on_htp("w4a16", "w4", (8.0, 0.60, 1.50)),
        _on_htp("w4a16_b32", "w4_b32", (10.0, 0.70, 1.25)),
        _on_htp("w4a16_b64", "w4_b64", (10.0, 0.70, 1.25)),
        _on_htp("w4a16_lpbq", "w4_lpbq", (10.0, 0.70, 1.25)),
        # CUDA: 4-bit codes in blocks, with float16 scales; FP8 weights, and activations rounded to
        # FP8 where there are many of them.
        Scheme("bf16", "float", "float", "float", ("cuda",), *_EIGHT, act="bf16"),
        _on_cuda("w4f16_b32", "w4_b32", "fp16", _FOUR, head="w4_b32"),
        _on_cuda("w4bf16_b32", "w4_b32", "bf16", _FOUR, head="w4_b32"),
        _on_cuda("w4f16_b128", "w4_b128", "fp16", _FOUR_COARSE),
        _on_cuda("u4f16_b32", "u4_b32", "fp16", _FOUR),
        _on_cuda("u4f16_b64", "u4_b64", "fp16", _FOUR),
        _on_cuda("u4f16_b128", "u4_b128", "fp16", _FOUR),
        _on_cuda("fp8", "e4m3", "bf16", _FLOATS, activations="e4m3_dynamic"),
        _on_cuda("fp8_static", "e4m3", "bf16", _FLOATS, activations="e4m3_static"),
        _on_cuda("fp8_channel", "e4m3_channel", "bf16", _FLOATS, activations="e4m3_dynamic"),
        _on_cuda("fp8_block", "e4m3_b128", "bf16", _FLOATS, activations="e4m3_dynamic"),
    )
}


def find_scheme(name: str, family: str) -> Scheme:
    """Return the scheme that is called `name`, or that an alias of that name means for the target
    family.

    Raises:
        BadInput: unknown, or not taken by the family; the hint lists what is.
    """
    meant = ALIASES[name].schemes.get(family, name) if name in ALIASES else name
    taken = [row.name for row in SCHEMES.values() if family in row.families]
    if meant in taken:
        return SCHEMES[meant]
    if name not in SCHEMES and name not in ALIASES:
        raise BadInput(f"no quantisation scheme is called {name!r}", hint=nearest(name, taken))
    raise BadInput(
        f"{family} targets do not take the scheme {name!r}", hint=f"known: {', '.join(taken)}"
    )


def default_scheme(family: str, source_kind: str) -> str:
    """Return the scheme used when none is asked for: a GGUF keeps its own blocks on the CPU."""
    if family == "cpu":
        return "gguf" if source_kind == "gguf" else "q8_0"
    return {"qaic": "fp16", "cuda": "bf16"}.get(family, "w8a16")
