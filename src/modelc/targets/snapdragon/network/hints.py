"""What to do about an operator that HTP refuses."""

from __future__ import annotations

from typing import Final

from modelc.targets.snapdragon.chipsets import Chipset

_DYNAMIC: Final = "its result has another size for other data: leave it out of the network"

_HINTS: Final = {
    "Erf": "write GELU as one Gelu node; the passes do so for the usual patterns",
    "Trilu": "multiply by, or add, a constant mask instead",
    "Einsum": "write it as MatMul, Transpose and Reshape; the passes do so for two operands",
    "NonMaxSuppression": "end the network before it and run it on the CPU, or --allow-cpu-fallback",
    "NonZero": _DYNAMIC,
    "Unique": _DYNAMIC,
    "Compress": _DYNAMIC,
    "If": "the condition must be a constant: fix it, and give every size with --dim",
    "Loop": "unroll it: give the number of rounds as a constant, and every size with --dim",
    "Scan": "unroll it, or use LSTM or GRU",
    "SkipSimplifiedLayerNormalization": "write it as Add and RMSNormalization",
    "GroupQueryAttention": "write it as MatMul and Softmax, or Attention",
    "QuantizeLinear": "take codes of uint8, int8, uint16 or int16, with one scale for a tensor",
    "DequantizeLinear": "int4 weights need their zero point of 0 written out; blocks have 32 or 64",
    "Mod": "only fmod=0 is taken: write x - y * Trunc(x / y)",
    "GridSample": "mode linear or nearest is taken",
    "MatMulInteger": "write it with DequantizeLinear before MatMul; so HTP knows quantisation",
    "ConvInteger": "write it with DequantizeLinear before Conv; so HTP knows quantisation",
    "DynamicQuantizeLinear": "HTP has fixed ranges only: quantise with calibration data",
    "STFT": "compute spectra before the network, or write it as Conv",
    "DFT": "compute spectra before the network, or write it as MatMul",
}

_QUANTISE: Final = "this chipset has no fp16, so HTP takes integers only: quantise (--quant w8a8)"
_OWN: Final = "it needs an op package (--op-package), or a pass that rewrites it"
_USE: Final = (
    "HTP has this operator, but not so: try fewer dimensions (5 at most), other types or "
    "attributes, or --allow-cpu-fallback"
)


def hint_for(op_type: str, reason: str, chipset: Chipset, *, quantised: bool) -> str:
    """Return what to do about a refused operator.

    Args:
        reason: the provider's.
        quantised: the network has codes, so a lack of fp16 is not what is wrong.
    """
    if not chipset.fp16 and not quantised:
        return _QUANTISE
    if hint := _HINTS.get(op_type):
        return hint
    return _OWN if "not supported by QNN EP" in reason else _USE
