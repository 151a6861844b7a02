"""ATen operators that work element by element."""

from __future__ import annotations

import numpy as np

from bn_audit.flow.algebra import Operand, added, as_cells, keeping_zero, pointwise, product, quotient
from bn_audit.flow.aten_operators.arguments import FLOATS, Arguments, Table, rows
from bn_audit.flow.call import Result
from bn_audit.flow.cells import Cells
from bn_audit.flow.choice import chosen
from bn_audit.flow.movement import broadcast, reshaped, sliced, squeezed
from bn_audit.flow.reduction import reduced
from bn_audit.flow.values import Value

KEEP_ZERO = """
    abs.default absolute.default neg.default negative.default sign.default sgn.default sqrt.default sin.default
    sinh.default asin.default arcsin.default asinh.default tan.default atan.default arctan.default atanh.default
    tanh.default erf.default erfinv.default expm1.default log1p.default relu.default relu6.default gelu.default
    silu.default mish.default elu.default celu.default selu.default leaky_relu.default hardswish.default
    hardshrink.default softshrink.default softsign.default tanhshrink.default floor.default ceil.default round.default
    round.decimals trunc.default fix.default frac.default square.default deg2rad.default rad2deg.default
    nan_to_num.default conj.default resolve_conj.default resolve_neg.default rrelu.default real.default imag.default
    _conj.default conj_physical.default
"""
"""Functions of one operand that map zero to zero."""

PLAIN = """
    exp.default exp2.default log.default log2.default log10.default cos.default cosh.default acos.default arccos.default
    acosh.default sigmoid.default hardsigmoid.default hardtanh.default softplus.default log_sigmoid.default
    logit.default reciprocal.default rsqrt.default lgamma.default digamma.default erfc.default special_expit.default
    special_erf.default threshold.default pow.Tensor_Scalar pow.Tensor_Tensor pow.Scalar atan2.default arctan2.default
    maximum.default minimum.default fmax.default fmin.default max.other min.other hypot.default xlogy.Tensor
    xlogy.Scalar_Other xlogy.Scalar_Self copysign.Tensor copysign.Scalar heaviside.default logaddexp.default
    logaddexp2.default remainder.Tensor remainder.Scalar remainder.Scalar_Tensor fmod.Tensor fmod.Scalar
    clamp.default clamp.Tensor clip.default clip.Tensor clamp_min.default clamp_min.Tensor clamp_max.default
    clamp_max.Tensor lerp.Tensor lerp.Scalar floor_divide.default floor_divide.Scalar nextafter.default
    polar.default complex.default bitwise_left_shift.Tensor bitwise_right_shift.Tensor
    bitwise_left_shift.Tensor_Scalar bitwise_right_shift.Tensor_Scalar __lshift__.Scalar __rshift__.Scalar
    smooth_l1_loss.default angle.default i0.default sinc.default
    quantized_decomposed.quantize_per_tensor.default quantized_decomposed.quantize_per_tensor.tensor
    quantized_decomposed.quantize_per_tensor.tensor2 quantized_decomposed.dequantize_per_tensor.default
    quantized_decomposed.dequantize_per_tensor.tensor quantized_decomposed.dequantize_per_tensor.tensor2
    fake_quantize_per_tensor_affine.default fake_quantize_per_tensor_affine.tensor_qparams
"""
"""Any other functions of corresponding elements."""

SELECTING = """
    eq.Tensor eq.Scalar ne.Tensor ne.Scalar not_equal.Tensor not_equal.Scalar gt.Tensor gt.Scalar greater.Tensor
    greater.Scalar ge.Tensor ge.Scalar greater_equal.Tensor greater_equal.Scalar lt.Tensor lt.Scalar less.Tensor
    less.Scalar le.Tensor le.Scalar less_equal.Tensor less_equal.Scalar logical_and.default logical_or.default
    logical_xor.default logical_not.default bitwise_and.Tensor bitwise_and.Scalar bitwise_or.Tensor bitwise_or.Scalar
    bitwise_xor.Tensor bitwise_xor.Scalar bitwise_not.default __and__.Tensor __and__.Scalar __or__.Tensor
    __or__.Scalar __xor__.Tensor __xor__.Scalar isnan.default isinf.default isfinite.default isposinf.default
    isneginf.default isclose.default signbit.default
"""
"""Functions whose results are masks."""

SYMBOLIC = """
    _operator.add _operator.sub _operator.mul _operator.floordiv _operator.truediv _operator.mod _operator.neg
    _operator.pow _operator.pos _operator.eq _operator.ne _operator.lt _operator.le _operator.gt _operator.ge
    _operator.and_ _operator.or_ _operator.not_ torch.sym_max torch.sym_min torch.sym_int torch.sym_float torch.sym_not
    torch.sym_ite torch.sym_sum math.ceil math.floor math.trunc builtins.round torch._sym_sqrt
"""
"""Arithmetic with sizes that depend on the data; where they do not, they are computed."""

IDENTITIES = """
    alias.default detach.default clone.default contiguous.default lift_fresh.default lift_fresh_copy.default
    lift.default positive.default detach_copy.default alias_copy.default to.other cpu.default
"""
"""Operators that give their operand back."""


def keeps_zero(arguments: Arguments) -> Result:
    return keeping_zero(arguments.seed, first(arguments))


def first(arguments: Arguments) -> Cells:
    """Return the operand, which some schemas call ``self`` and others ``input``."""
    return arguments.cells("self" if arguments.has("self") else "input")


def plain(arguments: Arguments) -> Result:
    """The seed holds the numbers of the call, so that their places count."""
    return pointwise(arguments.seed, arguments.call.operands())


def selecting(arguments: Arguments) -> Result:
    return pointwise(arguments.seed, arguments.call.operands(), selects=True)


def identity(arguments: Arguments) -> Result:
    value = arguments.value("self" if arguments.has("self") else "input")
    return value if value is not None else first(arguments)


def cast(arguments: Arguments) -> Result:
    """A cast to integers or to bool cuts values off."""
    name = arguments.raw("dtype")
    if not isinstance(name, str) or name in FLOATS:
        return identity(arguments)
    return keeping_zero(("cast", name), first(arguments), selects=True)


def type_as(arguments: Arguments) -> Result:
    name = arguments.dtype_of(arguments.operand("other"))
    if name is None or name in FLOATS:
        return identity(arguments)
    return keeping_zero(("cast", name), first(arguments), selects=True)


def dropout(arguments: Arguments) -> Result:
    """Each element is kept or not, whatever the others are."""
    return _dropped(arguments)


def _dropped(arguments: Arguments) -> Value:
    if not arguments.flag("train", True) or arguments.number("p", 0.5) == 0:
        return arguments.operand("self" if arguments.has("self") else "input")
    return keeping_zero(("dropout", arguments.call.node.name), first(arguments))


def scaled_by(arguments: Arguments, operand: Operand, name: str) -> Operand:
    """Return an operand times a number of the call, where that is not 1."""
    factor = arguments.number(name, 1.0)
    return operand if factor == 1.0 else product(("scale", factor), [operand, arguments.operand(name)])


def add(arguments: Arguments) -> Result:
    other = scaled_by(arguments, arguments.operand("other"), "alpha")
    return added("add", [arguments.operand("self"), other])


def subtract(arguments: Arguments) -> Result:
    other = scaled_by(arguments, arguments.operand("other"), "alpha")
    return added("sub", [arguments.operand("self"), other], minus=True)


def subtract_from(arguments: Arguments) -> Result:
    own = scaled_by(arguments, arguments.operand("self"), "alpha")
    return added("sub", [arguments.operand("other"), own], minus=True)


def multiply(arguments: Arguments) -> Result:
    return product("mul", [arguments.operand("self"), arguments.operand("other")])


def divide(arguments: Arguments) -> Result:
    seed = ("div", arguments.text("rounding_mode", ""))
    return quotient(seed, arguments.operand("self"), arguments.operand("other"))


def add_product(arguments: Arguments) -> Result:
    """``self + value * tensor1 * tensor2``, or with a quotient."""
    left, right = arguments.operand("tensor1"), arguments.operand("tensor2")
    term: Operand
    term = quotient("div", left, right) if arguments.op == "aten.addcdiv" else product("mul", [left, right])
    return added("add", [arguments.operand("self"), scaled_by(arguments, term, "value")])


def where(arguments: Arguments) -> Result:
    return chosen("where", arguments.operand("condition"), arguments.operand("self"), arguments.operand("other"))


def masked_fill(arguments: Arguments) -> Result:
    return chosen("where", arguments.operand("mask"), arguments.operand("value"), arguments.operand("self"))


def glu(arguments: Arguments) -> Result:
    """One half along an axis, gated by the other."""
    cells = arguments.cells("self")
    axis = arguments.axis("dim", -1, cells.rank)
    half = cells.shape[axis] // 2
    gate = pointwise("sigmoid", [sliced(cells, axis, half, 1, half)])
    return product("mul", [sliced(cells, axis, 0, 1, half), gate])


def parametric(arguments: Arguments) -> Result:
    """PReLU: the weight is one for each index of the second axis."""
    from bn_audit.flow.aten_operators.layers import per_channel

    cells = arguments.cells("self")
    weight = arguments.operand("weight")
    if len(weight.shape) == 1 and cells.rank > 1:
        weight = per_channel(weight, cells.rank)
    return pointwise("prelu", [cells, weight])


def copy(arguments: Arguments) -> Result:
    """What is copied takes the place of all elements."""
    return broadcast(arguments.cells("src"), arguments.operand("self").shape)


def fill(arguments: Arguments) -> Result:
    value = as_cells(arguments.operand("value") if arguments.has("value") else arguments.constant(np.zeros(())))
    return broadcast(squeezed(value, range(value.rank)), arguments.operand("self").shape)


def log_sigmoid(arguments: Arguments) -> Result:
    result = pointwise(arguments.seed, [arguments.operand("self")])
    return result, result


def native_dropout(arguments: Arguments) -> Result:
    mask = pointwise(("dropped", arguments.call.node.name), [first(arguments)], selects=True)
    return _dropped(arguments), mask


def view_as_complex(arguments: Arguments) -> Result:
    """Pairs along the last axis become one number."""
    cells = arguments.cells("self")
    return reduced(cells, (cells.rank - 1,), "complex", keep=False, ordered=True)


def view_as_real(arguments: Arguments) -> Result:
    from bn_audit.flow.aten_operators.reducing import spread_along

    cells = as_cells(arguments.operand("self"))
    return spread_along(reshaped(cells, (*cells.shape, 1)), cells.rank, 2, "real")


TABLE: Table = rows(
    (KEEP_ZERO, keeps_zero),
    (PLAIN, plain),
    (SYMBOLIC, plain),
    (SELECTING, selecting),
    (IDENTITIES, identity),
    ("to.dtype to.device to.dtype_layout to.prim_Device to.prim_dtype", cast),
    ("_to_copy.default prims.convert_element_type.default", cast),
    ("float.default double.default half.default", identity),
    ("type_as.default", type_as),
    ("add.Tensor add.Scalar", add),
    ("sub.Tensor sub.Scalar subtract.Tensor subtract.Scalar", subtract),
    ("rsub.Tensor rsub.Scalar", subtract_from),
    ("mul.Tensor mul.Scalar multiply.Tensor multiply.Scalar", multiply),
    (
        "div.Tensor div.Scalar div.Tensor_mode div.Scalar_mode divide.Tensor true_divide.Tensor true_divide.Scalar",
        divide,
    ),
    ("addcmul.default addcdiv.default", add_product),
    ("where.self where.ScalarSelf where.ScalarOther where.Scalar", where),
    ("masked_fill.Scalar masked_fill.Tensor", masked_fill),
    ("glu.default", glu),
    ("prelu.default _prelu_kernel.default", parametric),
    ("copy.default", copy),
    ("fill.Scalar fill.Tensor zero.default", fill),
    ("log_sigmoid_forward.default", log_sigmoid),
    ("dropout.default feature_dropout.default alpha_dropout.default feature_alpha_dropout.default", dropout),
    ("native_dropout.default", native_dropout),
    ("view_as_complex.default", view_as_complex),
    ("view_as_real.default", view_as_real),
)
