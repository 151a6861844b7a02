"""ATen operators that normalise or draw random numbers, and the names of the arguments that decide how.

Source: aten/src/ATen/native/native_functions.yaml of PyTorch 2.13. None of these arguments has a default there but
those of `ATTENTIONS` and `RRELUS`, whose defaults are off; what a program leaves out is off as well.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NormOperator:
    """How to read a call of a normalising operator.

    Attributes:
        training: Name of the boolean argument, or the value that the operator itself fixes.
        statistics: It takes running statistics.
    """

    training: str | bool
    momentum: str | None = "momentum"
    eps: str = "eps"
    statistics: bool = True


NORMS = {
    "batch_norm": NormOperator(training="training"),
    "native_batch_norm": NormOperator(training="training"),
    "_native_batch_norm_legit": NormOperator(training="training"),
    "_native_batch_norm_legit_functional": NormOperator(training="training"),
    "_native_batch_norm_legit_no_training": NormOperator(training=False),
    "_batch_norm_impl_index": NormOperator(training="training"),
    "_batch_norm_with_update": NormOperator(training=True),
    "_batch_norm_with_update_functional": NormOperator(training=True),
    "_batch_norm_no_update": NormOperator(training=False),
    "cudnn_batch_norm": NormOperator(training="training", momentum="exponential_average_factor", eps="epsilon"),
    "miopen_batch_norm": NormOperator(training="training", momentum="exponential_average_factor", eps="epsilon"),
    # SyncBatchNorm gathers the statistics of all processes first, and only in training mode.
    "batch_norm_elemt": NormOperator(training=True, momentum=None, statistics=False),
    "instance_norm": NormOperator(training="use_input_stats"),
}

INSTANCE_NORM = "instance_norm"
SYNC_BATCH_NORM = "batch_norm_elemt"

DROPOUTS = frozenset(
    f"{name}{suffix}"
    for name in ("dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout", "native_dropout")
    for suffix in ("", "_")
)
"""Dropout with arguments ``p`` and ``train``."""

ATTENTIONS = frozenset(
    (
        "scaled_dot_product_attention",
        "_scaled_dot_product_attention_math",
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention",
        "_scaled_dot_product_fused_attention_overrideable",
        "_flash_attention_forward",
        "_efficient_attention_forward",
        "_cudnn_attention_forward",
    )
)
"""Attention with a ``dropout_p`` that no mode switches off."""

RECURRENT = frozenset(("lstm", "gru", "rnn_tanh", "rnn_relu"))
"""Recurrent layers with arguments ``dropout``, ``train`` and ``num_layers``; they drop between layers only."""

RRELUS = frozenset(("rrelu", "rrelu_", "rrelu_with_noise", "rrelu_with_noise_", "rrelu_with_noise_functional"))
"""Randomised leaky ReLU, with the argument ``training``."""

RANDOM = frozenset(
    (
        *("rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like"),
        *("bernoulli", "bernoulli_", "multinomial", "normal", "normal_", "normal_functional", "uniform", "uniform_"),
        *("exponential", "exponential_", "geometric", "geometric_", "cauchy", "cauchy_", "log_normal", "log_normal_"),
        *("random", "random_", "poisson", "binomial", "_standard_gamma", "_sample_dirichlet", "_fused_dropout"),
    )
)
"""Operators that draw at every call."""
