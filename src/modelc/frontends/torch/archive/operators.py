"""Which operators a node may call: ATen's that torch.onnx knows, or that are written as those.

A table rather than a namespace, because ATen has operators that touch files (`from_file`), storages
(`set_`) or raw memory (`_sparse_coo_tensor_unsafe`).
"""

from __future__ import annotations

import re
from typing import Final

_NAMES: Final = """
abs absolute acos acosh adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d add addbmm addcdiv addcmul addmm addmv
addr affine_grid_generator alias all alpha_dropout amax amin aminmax angle any arange arccos
arccosh arcsin arcsinh arctan arctan2 arctanh argmax argmin argsort argwhere as_strided asin asinh
atan atan2 atanh atleast_1d atleast_2d atleast_3d avg_pool1d avg_pool2d avg_pool3d baddbmm
batch_norm bilinear bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift
bitwise_xor blackman_window block_diag bmm broadcast_tensors broadcast_to bucketize cat cdist ceil
celu chain_matmul channel_shuffle chunk clamp clamp_max clamp_min clip clone col2im column_stack
complex concat concatenate conj constant_pad_nd contiguous conv1d conv2d conv3d conv_transpose1d
conv_transpose2d conv_transpose3d convolution copy cos cosh cosine_similarity count_nonzero cross
cumprod cumsum deg2rad detach diag diag_embed diagonal diagonal_copy diff div divide dot dropout
dsplit dstack einsum elu embedding embedding_bag empty empty_like empty_strided eq erf erfc erfinv
exp exp2 expand expand_as expm1 eye fake_quantize_per_channel_affine
fake_quantize_per_tensor_affine feature_alpha_dropout feature_dropout fill fix flatten flip fliplr
flipud float_power floor floor_divide fmod frac frobenius_norm full full_like gather ge gelu glu
greater greater_equal grid_sampler grid_sampler_2d grid_sampler_3d group_norm gru gt
hamming_window hann_window hardshrink hardsigmoid hardswish hardtanh heaviside hsplit hstack hypot
im2col imag index index_add index_copy index_fill index_put index_select inner instance_norm
inverse isclose isfinite isin isinf isnan isneginf isposinf kron layer_norm le leaky_relu lerp
less less_equal lift_fresh lift_fresh_copy linalg_cross linalg_det linalg_inv linalg_matmul
linalg_matrix_norm linalg_multi_dot linalg_norm linalg_vecdot linalg_vector_norm linear linspace
log log10 log1p log2 log_sigmoid log_sigmoid_forward log_softmax logaddexp logaddexp2 logcumsumexp
logical_and logical_not logical_or logical_xor logit logspace logsumexp lstm lt mH mT masked_fill
masked_scatter masked_select matmul max max_pool1d max_pool1d_with_indices max_pool2d
max_pool2d_with_indices max_pool3d max_pool3d_with_indices maximum mean median meshgrid min
minimum mish mm moveaxis movedim mul multiply mv nan_to_num nanmean nansum narrow
native_batch_norm native_channel_shuffle native_dropout native_group_norm native_layer_norm ne neg
negative new_empty new_empty_strided new_full new_ones new_zeros nonzero norm not_equal numpy_T
one_hot ones ones_like outer pad pairwise_distance permute pixel_shuffle pixel_unshuffle polar
positive pow prelu prod rad2deg rand rand_like randn randn_like ravel real reciprocal
reflection_pad1d reflection_pad2d reflection_pad3d relu relu6 remainder renorm repeat
repeat_interleave replication_pad1d replication_pad2d replication_pad3d reshape reshape_as
resolve_conj resolve_neg rms_norm rnn_relu rnn_tanh roll rot90 round rrelu rsqrt rsub
scalar_tensor scaled_dot_product_attention scatter scatter_add scatter_reduce searchsorted select
select_copy select_scatter selu sgn sigmoid sign signbit silu sin sinc sinh slice slice_copy
slice_scatter softmax softplus softshrink sort special_erf special_erfc special_expit
special_expm1 special_log1p special_log_softmax special_logsumexp special_sinc special_softmax
split split_with_sizes sqrt square squeeze squeeze_copy stack std std_mean stft sub subtract sum
swapaxes swapdims t take take_along_dim tan tanh tensor_split tensordot threshold tile to topk
trace transpose tril tril_indices triu triu_indices true_divide trunc type_as unbind unflatten
unfold unfold_copy unsafe_chunk unsafe_split unsafe_split_with_sizes unsqueeze unsqueeze_copy
upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d
upsample_nearest3d upsample_trilinear3d var var_mean vdot view view_as view_as_complex
view_as_real view_copy vsplit vstack where xlogy zero zeros zeros_like

__and__ __lshift__ __or__ __rshift__ __xor__ _adaptive_avg_pool2d _adaptive_avg_pool3d
_assert_tensor_metadata _convolution _embedding_bag _embedding_bag_forward_only _fft_c2c _fft_c2r
_fft_r2c _log_softmax _native_batch_norm_legit _native_batch_norm_legit_no_training _prelu_kernel
_safe_softmax _scaled_dot_product_efficient_attention _scaled_dot_product_flash_attention
_scaled_dot_product_flash_attention_for_cpu _softmax _to_copy _trilinear _unsafe_index
_unsafe_index_put _unsafe_view _upsample_bicubic2d_aa _upsample_bilinear2d_aa
_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d _weight_norm
_weight_norm_interface fft_fft fft_fft2 fft_fftn fft_fftshift fft_ifft fft_ifft2 fft_ifftn
fft_ifftshift fft_irfft fft_irfft2 fft_irfftn fft_rfft fft_rfft2 fft_rfftn
"""

ATEN: Final = frozenset(_NAMES.split())
"""Names without their overloads; one that works in place has `_` behind its name."""

HIGHER_ORDER: Final = frozenset({"cond", "scan", "while_loop", "wrap_with_set_grad_enabled"})
"""Operators that take graphs."""

SYMBOLIC: Final = re.compile(
    r"_operator\.(?:add|and_|eq|floordiv|ge|gt|le|lshift|lt|mod|mul|ne|neg|or_|pos|pow|rshift|sub|truediv)"
    r"|math\.(?:ceil|floor|trunc)"
    r"|torch\.sym_(?:float|int|ite|max|min|not|sqrt|sum)"
    r"|torch\.ops\.aten\.(?:sym_size|sym_stride)\.(?:int|default)"
    r"|torch\.ops\.aten\.(?:sym_numel|sym_storage_offset)\.default"
)
"""What gives a size, flag or factor: known before, so such nodes are dropped."""

ASSERTION: Final = "torch.ops.aten._assert_scalar.default"
CONSTRAINTS: Final = frozenset(
    f"torch.ops.aten.sym_constrain_range{end}.default" for end in ("", "_for_size")
)
"""What is said of one size: the program's ranges say it as well."""

_ATEN: Final = re.compile(r"torch\.ops\.aten\.([A-Za-z0-9_]{1,99})\.[A-Za-z0-9_]{1,99}")
_HIGHER: Final = re.compile(r"torch\.ops\.higher_order\.([a-z_]{1,99})")


def is_tensor_operator(target: str) -> bool:
    """Tell whether a node may call this: `torch.ops.aten.NAME.OVERLOAD` of the table."""
    found = _ATEN.fullmatch(target)
    return found is not None and bool({found[1], found[1].removesuffix("_")} & ATEN)


def is_higher_order(target: str) -> bool:
    """Tell whether a node may call this with graphs."""
    found = _HIGHER.fullmatch(target)
    return found is not None and found[1] in HIGHER_ORDER


def works_in_place(target: str) -> bool:
    """Tell whether an operator changes its first argument."""
    found = _ATEN.fullmatch(target)
    return found is not None and found[1] not in ATEN
