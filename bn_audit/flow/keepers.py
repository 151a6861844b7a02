"""ATen operators by what they do to the axis along which the samples lie.

Names are without namespace and overload; an in-place variant has an underscore behind its name.
Source: aten/src/ATen/native/native_functions.yaml of PyTorch 2.13.
"""

from __future__ import annotations


def _words(*lines: str) -> frozenset[str]:
    return frozenset(name for line in lines for name in line.split())


def _with_inplace(*lines: str) -> frozenset[str]:
    return frozenset(variant for name in _words(*lines) for variant in (name, f"{name}_"))


CASTS = _words(
    "contiguous clone to _to_copy type_as float half double bfloat16 alias alias_copy detach detach_ lift lift_fresh "
    "lift_fresh_copy cuda cpu copy_to _assert_tensor_metadata dequantize requires_grad_"
)
"""Return their first operand in another memory layout, dtype or place."""

CONSTANTS = _words(
    "full zeros ones arange eye linspace logspace scalar_tensor tensor empty constant zeros_like ones_like full_like"
)
"""Make a value out of nothing; random ones are left out, for their rows differ."""

RANDOM = _with_inplace(
    "bernoulli normal uniform exponential geometric cauchy log_normal random multinomial poisson binomial "
    "rand_like randn_like randint_like"
)
"""Make different rows out of parameters that have been expanded to the size of the batch."""

ELEMENTWISE = _with_inplace(
    "add sub rsub mul div true_divide floor_divide remainder fmod pow maximum minimum fmax fmin where addcmul addcdiv "
    "lerp clamp clamp_min clamp_max clip relu relu6 leaky_relu elu celu selu gelu silu mish hardtanh hardswish "
    "hardsigmoid sigmoid tanh softplus softsign logsigmoid log_sigmoid exp expm1 log log1p log2 log10 sqrt rsqrt "
    "square reciprocal abs neg sign sin cos tan atan atan2 erf ceil floor round trunc threshold hardshrink softshrink "
    "tanhshrink dropout native_dropout alpha_dropout masked_fill eq ne lt le gt ge logical_and logical_or "
    "logical_not bitwise_and bitwise_or bitwise_not nan_to_num positive isnan copy fake_quantize_per_tensor_affine "
    "fake_quantize_per_channel_affine quantize_per_tensor quantize_per_channel dequantize_per_tensor "
    "dequantize_per_channel heaviside xlogy"
)
"""Compute element by element with broadcasting."""

BATCH_NORMS = _words(
    "batch_norm _native_batch_norm_legit _native_batch_norm_legit_functional _native_batch_norm_legit_no_training "
    "native_batch_norm cudnn_batch_norm miopen_batch_norm _batch_norm_with_update _batch_norm_no_update "
    "_batch_norm_with_update_functional _batch_norm_impl_index batch_norm_elemt"
)
"""Normalise each index of axis 1 by itself."""

FIRST_OPERAND = {
    **dict.fromkeys(
        _words(
            "conv1d conv2d conv3d convolution _convolution conv_transpose1d conv_transpose2d conv_transpose3d "
            "mkldnn_convolution cudnn_convolution conv_tbc linear mm matmul mv embedding_bag prelu rrelu "
            "instance_norm group_norm native_group_norm layer_norm native_layer_norm "
            "rrelu_with_noise rms_norm _fused_rms_norm local_response_norm glu"
        ),
        0,
    ),
    **dict.fromkeys(BATCH_NORMS, 0),
    "addmm": 1,
}
"""Operators that keep axis 0 of one operand, with its index; their other operands are weights."""

KEEPERS = _with_inplace(
    "max_pool1d max_pool2d max_pool3d max_pool2d_with_indices max_pool3d_with_indices avg_pool1d avg_pool2d avg_pool3d "
    "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d "
    "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d fractional_max_pool2d lp_pool1d lp_pool2d "
    "upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_bilinear2d upsample_bicubic2d "
    "upsample_trilinear3d upsample_linear1d _upsample_nearest_exact2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa "
    "grid_sampler grid_sampler_2d grid_sampler_3d pixel_shuffle pixel_unshuffle channel_shuffle im2col col2im "
    "pad constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d "
    "replication_pad3d cat concat split split_with_sizes chunk tensor_split slice narrow flip roll bmm baddbmm "
    "scaled_dot_product_attention embedding gather index_select feature_dropout feature_alpha_dropout "
    "softmax _softmax log_softmax _log_softmax cumsum normalize"
)
"""Operators whose output has the rows of their operands along axis 0."""
