"""What to do about an operator that HTP refuses."""

from __future__ import annotations

from typing import Final

from modelc.targets.snapdragon.chipsets import Chipset

_DYNAMIC: Final = "its result has another size for other data: leave it out of the network"
_RANDOM: Final = "give the random numbers as an input, or leave it out: inference needs none"
_TRAINING: Final = "export the model for inference: model.eval(), training_mode=0"
_LOSS: Final = "it is for training: end the network before it"
_BITS: Final = "HTP computes no single bits: do so outside the network, or multiply and add"
_CODES: Final = (
    "give the float model and let modelc quantise it (--quant), with this model's ranges as "
    "encodings if need be"
)
_WINDOW: Final = "give its size as a constant, so that it is computed once"

_HINTS: Final = {
    "Attention": "let it give no scores, or the softmax's results (qk_matmul_output_mode=3)",
    "BatchNormalization": _TRAINING,
    "Bernoulli": _RANDOM,
    "BitShift": _BITS,
    "BitwiseAnd": _BITS,
    "BitwiseNot": _BITS,
    "BitwiseOr": _BITS,
    "BitwiseXor": _BITS,
    "BlackmanWindow": _WINDOW,
    "Col2Im": "one or two axes of an image are taken, their sizes constant",
    "Compress": _DYNAMIC,
    "ConstantOfShape": "give its sizes as constants, so that it is computed once",
    "ConvInteger": _CODES,
    "DFT": "give its axis and length as constants; write an inverse onesided one as MatMul",
    "DeformConv": "write it as GridSample and Conv, or give an op package (--op-package)",
    "DequantizeLinear": "int4 weights need their zero point of 0 written out; blocks have 32 or 64",
    "Det": "write it as products and differences, or compute it after the network",
    "Dropout": _TRAINING,
    "DynamicQuantizeLinear": "HTP has fixed ranges only: quantise with calibration data",
    "Einsum": "write it as MatMul, Transpose and Reshape; the passes do so for two operands",
    "Erf": "write GELU as one Gelu node; the passes do so for the usual patterns",
    "GridSample": "images are sampled in mode linear; other modes and volumes are not taken",
    "GroupQueryAttention": "write it as MatMul and Softmax, or Attention",
    "HammingWindow": _WINDOW,
    "HannWindow": _WINDOW,
    "If": "the condition must be a constant: fix it, and give every size with --dim",
    "ImageDecoder": "decode images before the network",
    "IsInf": "compare with a large number instead: Greater, or Less",
    "IsNaN": "keep NaN from arising, such as by a lower bound before a division",
    "LSTM": "give no sequence_lens, or a constant one of whole sequences",
    "Loop": "unroll it: give the number of rounds as a constant, and every size with --dim",
    "MatMulInteger": _CODES,
    "MaxPool": "let it give no Indices; cast bytes to float32 before it, and back behind it",
    "MaxUnpool": "write it as Resize, or as ConvTranspose with constant weights",
    "MelWeightMatrix": _WINDOW,
    "Mod": "only fmod=0 is taken: write x - y * Trunc(x / y)",
    "NegativeLogLikelihoodLoss": _LOSS,
    "NonMaxSuppression": "end the network before it and run it on the CPU, or --allow-cpu-fallback",
    "NonZero": _DYNAMIC,
    "OptionalGetElement": "give the tensor itself",
    "OptionalHasElement": "give a constant condition",
    "Pow": "cast the base to float32 before it; what is beyond 2048 is rounded then",
    "QLinearConv": _CODES,
    "QLinearMatMul": _CODES,
    "QuantizeLinear": "take codes of uint8, int8, uint16 or int16, with one scale for a tensor",
    "RandomNormal": _RANDOM,
    "RandomNormalLike": _RANDOM,
    "RandomUniform": _RANDOM,
    "RandomUniformLike": _RANDOM,
    "Range": "give its ends as constants, so that it is computed once",
    "Resize": "crop with Slice, and resize the whole",
    "ReverseSequence": "give constant lengths; they are taken as Gather then",
    "STFT": "compute spectra before the network, or write it as Conv",
    "Scan": "unroll it, or use LSTM or GRU",
    "ScatterElements": "only none, add and mul are taken as reduction: write max and min as Where",
    "ScatterND": "only none, add and mul are taken as reduction: write max and min as Where",
    "SkipSimplifiedLayerNormalization": "write it as Add and RMSNormalization",
    "SoftmaxCrossEntropyLoss": _LOSS,
    "TfIdfVectorizer": "turn text into numbers before the network",
    "Trilu": "multiply by, or add, a constant mask instead",
    "Unique": _DYNAMIC,
}

_BY_REASON: Final = (
    ("sizes of", "give it constants: its sizes have to be known; see also --dim"),
    ("are no constants", "give them as constants; see also --dim"),
    ("quantised already", _CODES),
    ("is empty", "leave out what has a size of 0"),
    ("bytes as codes", "cast to int32 before it, and back behind it"),
    ("axes, HTP takes", "merge axes with Reshape before it"),
    ("which HTP doesn't compute", "export the model with float32 and int32 there"),
)
"""What modelc's own reasons say, whatever the operator."""

_QUANTISE: Final = "this chipset has no fp16, so HTP takes integers only: quantise (--quant w8a8)"
_UNKNOWN: Final = ("not supported by QNN EP", "no such operator")
_OWN: Final = "it needs an op package (--op-package), or a pass that rewrites it"
_USE: Final = (
    "HTP has this operator, but not so: try fewer dimensions (5 at most), other types or "
    "attributes, or --allow-cpu-fallback"
)


def hint_for(op_type: str, reason: str, chipset: Chipset, *, quantised: bool) -> str:
    """Return what to do about a refused operator.

    Args:
        reason: the provider's, or that of modelc's passes.
        quantised: the network has codes, so a lack of fp16 is not what is wrong.
    """
    if not chipset.fp16 and not quantised:
        return _QUANTISE
    for part, hint in _BY_REASON:
        if part in reason:
            return hint
    if hint := _HINTS.get(op_type, ""):
        return hint
    return _OWN if any(part in reason for part in _UNKNOWN) else _USE
