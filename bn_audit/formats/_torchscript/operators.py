"""The operators of TorchScript code that matter here, with the places of their arguments.

Names are those of ATen, without namespace; an in-place variant has an underscore behind its name.
Source: aten/src/ATen/native/native_functions.yaml of PyTorch 2.13.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NormSignature:
    """Places of the arguments of a normalisation operator; None where it has no such argument.

    Attributes:
        arity: Number of arguments that tells two overloads apart; None where any fits.
        training: Place of the flag, or the value that the operator implies.
    """

    arity: int | None = None
    mean: int | None = 3
    variance: int | None = 4
    training: int | bool
    training_is_fixed: bool = False
    momentum: int | None = 6
    eps: int = 7


_USUAL = NormSignature(training=5)
_QUANTISED = NormSignature(training=False, training_is_fixed=True, momentum=None, eps=5)

NORMS: dict[str, tuple[NormSignature, ...]] = {
    **dict.fromkeys(
        ("batch_norm", "_batch_norm_impl_index", "native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm"),
        (_USUAL,),
    ),
    "_native_batch_norm_legit": (
        NormSignature(arity=6, mean=None, variance=None, training=3, momentum=4, eps=5),
        _USUAL,
    ),
    "_native_batch_norm_legit_no_training": (NormSignature(training=False, training_is_fixed=True, momentum=5, eps=6),),
    "_batch_norm_with_update": (NormSignature(training=True, training_is_fixed=True, momentum=5, eps=6),),
    "_batch_norm_no_update": (NormSignature(training=False, training_is_fixed=True, momentum=5, eps=6),),
    **dict.fromkeys(("quantized.batch_norm", "quantized.batch_norm1d"), (_QUANTISED,)),
    **dict.fromkeys(("quantized.batch_norm2d", "quantized.batch_norm3d"), (_QUANTISED,)),
    **dict.fromkeys(("quantized.batch_norm2d_relu", "quantized.batch_norm3d_relu"), (_QUANTISED,)),
    "instance_norm": (_USUAL,),
}
"""Operators that normalise: input, weight, bias, then the arguments whose places the signature gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DropoutSignature:
    """Places of the arguments of a dropout operator; None for a `training` that is always on."""

    probability: int
    training: int | None


_PLAIN = DropoutSignature(probability=1, training=2)

DROPOUTS: dict[str, DropoutSignature] = {
    **dict.fromkeys(("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "native_dropout"), _PLAIN),
    **dict.fromkeys(("dropout_", "feature_dropout_", "alpha_dropout_", "feature_alpha_dropout_"), _PLAIN),
    "_fused_dropout": DropoutSignature(probability=1, training=None),
    "scaled_dot_product_attention": DropoutSignature(probability=4, training=None),
    "_scaled_dot_product_attention": DropoutSignature(probability=4, training=None),
    "_scaled_dot_product_flash_attention": DropoutSignature(probability=3, training=None),
    "_scaled_dot_product_flash_attention_for_cpu": DropoutSignature(probability=3, training=None),
    "_scaled_dot_product_efficient_attention": DropoutSignature(probability=5, training=None),
    "_scaled_dot_product_cudnn_attention": DropoutSignature(probability=5, training=None),
}
"""Operators that drop elements with a probability."""

RECURRENT = frozenset(("lstm", "gru", "rnn_tanh", "rnn_relu"))
"""Operators with dropout between their layers."""

RANDOM_WHEN_TRAINING = {"rrelu": 3, "rrelu_": 3, "rrelu_with_noise": 4, "rrelu_with_noise_": 4}
"""Operators that draw only in training, with the place of the flag."""

RANDOM = frozenset(
    [
        "bernoulli",
        "bernoulli_",
        "multinomial",
        "normal",
        "normal_",
        "normal_functional",
        "rand",
        "rand_like",
        "randn",
        "randn_like",
        "randint",
        "randint_like",
        "randperm",
        "poisson",
        "binomial",
        "uniform",
        "uniform_",
        "exponential",
        "exponential_",
        "geometric",
        "geometric_",
        "cauchy",
        "cauchy_",
        "log_normal",
        "log_normal_",
        "random",
        "random_",
        "_standard_gamma",
        "_sample_dirichlet",
    ]
)
"""Other operators that draw random numbers."""

INTERESTING = re.compile(
    r"batch_norm|instance_norm|dropout|scaled_dot_product|rrelu|\.(?:lstm|gru|rnn_tanh|rnn_relu)\("
    rf"|\.(?:{'|'.join(sorted(RANDOM))})\("
)
"""Matches code that may hold one of the operators above."""
