"""Which operators are written out for HTP, and why.

Each row was found with the provider itself: operators that it refuses, forms of others, and those
whose results in the simulator are wrong. A function returns what takes the place of the node's
outputs (None for one that nobody reads), or None where this very node may stay, or can't be helped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import onnx_ir as ir

from modelc.passes.network.decompose import (
    attention,
    einsum,
    elementwise,
    indexing,
    integers,
    matrices,
    norms,
    pooling,
    recurrent,
    reductions,
    resize,
    shaping,
)
from modelc.passes.network.sketch import Sketch

Decompose = Callable[[Sketch, ir.Node], Sequence[ir.Value | None] | None]


@dataclass(frozen=True)
class Row:
    """How one operator is written out, and the reason that people are told."""

    decompose: Decompose
    reason: str


_REFUSED: Final = "not taken by HTP's provider"
_FORM: Final = "taken in some forms only"
_WRONG: Final = "some forms are computed wrongly"

TABLE: Final[Mapping[str, Row]] = {
    "Acos": Row(elementwise.acos, _REFUSED),
    "Acosh": Row(elementwise.acosh, _REFUSED),
    "AffineGrid": Row(matrices.affine_grid, _REFUSED),
    "ArgMax": Row(reductions.last_extreme_index, "only the first of equals is found"),
    "ArgMin": Row(reductions.last_extreme_index, "only the first of equals is found"),
    "Asin": Row(elementwise.asin, _REFUSED),
    "Asinh": Row(elementwise.asinh, _REFUSED),
    "Atanh": Row(elementwise.atanh, _REFUSED),
    "Attention": Row(attention.attention, "its inner tensors need ranges; no boolean masks"),
    "AveragePool": Row(pooling.average, f"{_WRONG}: pads, ceil_mode; no dilations"),
    "BatchNormalization": Row(norms.batch_norm, "its numbers must be constant"),
    "Cast": Row(integers.cast, f"{_WRONG}: bytes to floats; int64 outputs"),
    "CastLike": Row(shaping.cast_like, _REFUSED),
    "Celu": Row(elementwise.celu, _REFUSED),
    "CenterCropPad": Row(shaping.center_crop_pad, _REFUSED),
    "Clip": Row(elementwise.clip, "its bounds must be constant, the lower one first"),
    "Col2Im": Row(matrices.column_to_image, _REFUSED),
    "Compress": Row(shaping.compress, _REFUSED),
    "ConvTranspose": Row(matrices.conv_transpose, "no dilations"),
    "Cosh": Row(elementwise.cosh, _REFUSED),
    "CumSum": Row(reductions.cumulative_sum, "neither exclusive nor reverse"),
    "DFT": Row(matrices.fourier, _REFUSED),
    "Dropout": Row(elementwise.dropout, _REFUSED),
    "Einsum": Row(einsum.einsum, _REFUSED),
    "Equal": Row(integers.equal, "no bools"),
    "Erf": Row(elementwise.erf, "taken only within a GELU"),
    "EyeLike": Row(shaping.eye_like, _REFUSED),
    "GRU": Row(recurrent.gated, "the batch can't be the first axis; no lengths"),
    "Gather": Row(indexing.gather, f"{_WRONG}: negative indices of codes"),
    "GatherElements": Row(indexing.gather_elements, f"{_WRONG}: negative indices"),
    "GatherND": Row(indexing.gather_nd, "no batch axes, no bools"),
    "Gemm": Row(matrices.gemm, "no factors"),
    "GlobalLpPool": Row(pooling.global_norm, _REFUSED),
    "GroupNormalization": Row(norms.group_norm, "no kernel of its own"),
    "Hardmax": Row(elementwise.hardmax, _REFUSED),
    "InstanceNormalization": Row(norms.instance_norm, "some forms crash the simulator"),
    "LSTM": Row(recurrent.gated, "the batch can't be the first axis; no lengths"),
    "LayerNormalization": Row(
        norms.layer_norm, f"{_WRONG}: four axes; no other axis than the last"
    ),
    "LpNormalization": Row(norms.lp_norm, "only with p = 2"),
    "LpPool": Row(pooling.norm, "some forms crash the simulator; p is 1 or 2"),
    "Max": Row(elementwise.one_operand, "two operands at least"),
    "MaxPool": Row(pooling.largest, "no dilations, no third axis, no bytes"),
    "Mean": Row(elementwise.one_operand, "two operands at least"),
    "MeanVarianceNormalization": Row(norms.mean_variance, _REFUSED),
    "Min": Row(elementwise.one_operand, "two operands at least"),
    "Mish": Row(elementwise.mish, _REFUSED),
    "Mod": Row(elementwise.mod, "no fmod"),
    "Neg": Row(integers.negative, "no integers"),
    "OneHot": Row(indexing.one_hot, f"{_WRONG}: negative indices"),
    "PRelu": Row(elementwise.prelu, "a slope that varies can't be quantised"),
    "Pad": Row(shaping.pad, f"{_WRONG}: edges; none for some axes, negative, wrapping"),
    "Pow": Row(elementwise.power, "base and exponent must be of one type"),
    "RMSNormalization": Row(norms.rms_norm, "only over the last axis"),
    "RNN": Row(recurrent.simple, _REFUSED),
    "ReduceL1": Row(reductions.l1, _REFUSED),
    "ReduceL2": Row(reductions.l2, "not over no axes"),
    "ReduceLogSum": Row(reductions.log_sum, _REFUSED),
    "ReduceLogSumExp": Row(reductions.log_sum_exp, "overflows in half precision"),
    "ReduceMax": Row(reductions.extreme, "no bools, not over no axes"),
    "ReduceMean": Row(reductions.plain, "not over no axes"),
    "ReduceMin": Row(reductions.extreme, "no bools, not over no axes"),
    "ReduceProd": Row(reductions.product, _REFUSED),
    "ReduceSum": Row(reductions.plain, "not over no axes"),
    "ReduceSumSquare": Row(reductions.sum_square, _REFUSED),
    "Reshape": Row(shaping.reshape, "constant sizes without zeros"),
    "Resize": Row(resize.resize, f"{_WRONG}: nearest neighbours, shrinking; others refused"),
    "ReverseSequence": Row(shaping.reverse_sequence, _REFUSED),
    "RotaryEmbedding": Row(attention.rotary, "computed wrongly"),
    "ScatterElements": Row(
        indexing.scatter_elements, f"{_WRONG}: negative indices; neither add nor mul"
    ),
    "Shrink": Row(elementwise.shrink, _REFUSED),
    "Sign": Row(integers.sign, "no integers"),
    "Sinh": Row(elementwise.sinh, _REFUSED),
    "Softplus": Row(elementwise.softplus, "off by half a percent"),
    "Softsign": Row(elementwise.softsign, _REFUSED),
    "Sum": Row(elementwise.one_operand, "two operands at least"),
    "Tan": Row(elementwise.tangent, "half precision, whatever the codes"),
    "Transpose": Row(integers.transpose, "no int64 inputs"),
    "Trilu": Row(shaping.trilu, _REFUSED),
}
"""By operator of the default domain, from A to Z."""
