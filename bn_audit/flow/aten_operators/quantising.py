"""Operators that quantise: with given scales element by element, or with scales chosen from what they are given.

Source: torch 2.13 ``torch/ao/quantization/fx/_decomposed.py``.
"""

from __future__ import annotations

from bn_audit.flow.algebra import Operand, as_cells, pointwise
from bn_audit.flow.aten_operators.arguments import Arguments, Table, rows
from bn_audit.flow.call import Result
from bn_audit.flow.cells import Cells, UndecidableError
from bn_audit.flow.constants import Constant
from bn_audit.flow.movement import reshaped
from bn_audit.flow.reduction import reduced


def range_of_all(arguments: Arguments) -> Result:
    """Scale and zero point for the whole of an array."""
    operand = arguments.operand("input")
    return _pair(reduced(operand, range(len(operand.shape)), arguments.op, keep=False), (1,))


def range_of_tokens(arguments: Arguments) -> Result:
    """Scale and zero point for each token, along the last axis."""
    operand = arguments.operand("input")
    token = reduced(operand, (len(operand.shape) - 1,), arguments.op)
    return _pair(token, token.shape)


def _pair(chosen: Cells, shape: tuple[int, ...]) -> tuple[Cells, Cells]:
    chosen = reshaped(chosen, shape)
    return pointwise("scale", [chosen]), pointwise("zero point", [chosen])


def with_scales(arguments: Arguments) -> Result:
    """Scales of shape (C,) along an axis."""
    operand = arguments.operand("input")
    rank = len(operand.shape)
    axis = arguments.axis("axis", 0, rank)
    names = [name for name in ("scales", "zero_points") if arguments.has(name)]
    return pointwise(arguments.seed, [operand, *(_along(arguments.operand(name), axis, rank) for name in names)])


def _along(scales: Operand, axis: int, rank: int) -> Operand:
    shape = (scales.shape[0], *(1,) * (rank - 1 - axis))
    return scales.reshaped(shape) if isinstance(scales, Constant) else reshaped(scales, shape)


def with_scales_of_tokens(arguments: Arguments) -> Result:
    """Scales with the rank of the array, of size 1 along the last axis."""
    return pointwise(arguments.seed, [arguments.operand(name) for name in ("input", "scales", "zero_points")])


def observed(arguments: Arguments) -> Result:
    """Fake quantisation that follows the range of what passes: live while it observes."""
    names = ("observer_on", "fake_quant_on", "running_min", "running_max", "scale", "zero_point")
    cells = as_cells(arguments.operand("self"))
    observing = arguments.operand("observer_on")
    values = observing.values() if isinstance(observing, Constant) else None
    settings = [reduced(o, range(len(o.shape)), n, keep=False) for n in names for o in [arguments.operand(n)]]
    if values is None:
        raise UndecidableError("whether it observes the batch cannot be read")
    if values.any():
        settings.append(reduced(cells, range(cells.rank), arguments.op, keep=False))
    result = pointwise(arguments.seed, [cells, *settings])
    return result, pointwise("mask", [result], selects=True)


QUANTISED = "quantized_decomposed."

TABLE: Table = rows(
    (f"{QUANTISED}choose_qparams.tensor {QUANTISED}choose_qparams_symmetric.tensor", range_of_all),
    (
        f"{QUANTISED}choose_qparams_per_token.default {QUANTISED}choose_qparams_per_token_asymmetric.default"
        f" {QUANTISED}_choose_qparams_per_token_asymmetric_impl.default",
        range_of_tokens,
    ),
    (
        f"{QUANTISED}quantize_per_channel.default {QUANTISED}dequantize_per_channel.default"
        f" {QUANTISED}fake_quant_per_channel.default",
        with_scales,
    ),
    (f"{QUANTISED}quantize_per_token.default {QUANTISED}dequantize_per_token.default", with_scales_of_tokens),
    (
        "_fused_moving_avg_obs_fq_helper.default _fused_moving_avg_obs_fq_helper_functional.default",
        observed,
    ),
)
