"""ATen operators that make arrays: sizes, constants too large to compute, random numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bn_audit.flow.algebra import as_cells, pointwise
from bn_audit.flow.aten_operators.arguments import Arguments, Table, rows
from bn_audit.flow.aten_operators.reducing import spread_along
from bn_audit.flow.call import Result
from bn_audit.flow.cells import DOUBT, SAME, Cells, UndecidableError, uniform
from bn_audit.flow.movement import reshaped
from bn_audit.flow.reduction import reduced
from bn_audit.flow.tokens import token


def size(arguments: Arguments) -> Result:
    shape = arguments.operand("self").shape
    return arguments.constant(np.asarray(shape[arguments.axis("dim", 0, len(shape))], np.int64))


def count(arguments: Arguments) -> Result:
    return arguments.constant(np.asarray(math.prod(arguments.operand("self").shape), np.int64))


def shape_of(arguments: Arguments) -> tuple[int, ...]:
    """Return the shape of a new array, a hard-coded batch in front replaced."""
    if not arguments.has("size"):
        return arguments.operand("self").shape
    return opened_shape(arguments, arguments.integers("size") or ())


def opened_shape(arguments: Arguments, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return sizes with a leading hard-coded batch size replaced, where that is tried."""
    setting = arguments.call.setting
    declared = setting.declared_batch
    if setting.relaxing and len(shape) > 1 and shape[0] == declared != setting.batch_size:
        setting.relaxed(arguments.call.node, f"its size {shape} fixes the batch size to {declared}")
        return (setting.batch_size, *shape[1:])
    return shape


def filled(arguments: Arguments) -> Result:
    """Zeros, ones and any other number, without storing it more than once."""
    name = arguments.op.removeprefix("aten.").removeprefix("new_").removesuffix("_like")
    shape = shape_of(arguments)
    if name == "empty":
        return uniform(shape, token("empty", arguments.call.node.name), repeated=True)
    if name == "full":
        value = as_cells(arguments.operand("fill_value"))
        from bn_audit.flow.movement import broadcast

        return broadcast(reshaped(value, ()), shape)
    fill = np.asarray(1.0 if name == "ones" else 0.0, np.float32)
    return arguments.constant(np.broadcast_to(fill, shape))


def scalar(arguments: Arguments) -> Result:
    return arguments.operand("s")


def noise(arguments: Arguments, shape: Sequence[int]) -> Cells:
    """Return the cells of random numbers: they belong to no sample, and their law is the same for all."""
    ones = (1,) * len(shape)
    forms = np.full(ones, token("noise", arguments.call.node.name))
    return Cells(tuple(shape), (SAME,) * len(shape), np.full(ones, DOUBT), forms, selects=True)


def random(arguments: Arguments) -> Result:
    if arguments.has("size"):
        return noise(arguments, opened_shape(arguments, arguments.integers("size") or ()))
    return noise(arguments, arguments.operand("self").shape)


def random_about(arguments: Arguments) -> Result:
    """Each element is drawn with its own parameters."""
    return pointwise(("random", arguments.call.node.name), arguments.call.operands(), selects=True)


def permutation(arguments: Arguments) -> Result:
    return noise(arguments, (arguments.integer("n", 0),))


def multinomial(arguments: Arguments) -> Result:
    """Each row of probabilities gives a row of draws."""
    operand = arguments.operand("self")
    last = len(operand.shape) - 1
    rows_ = reduced(operand, (last,), ("multinomial", arguments.call.node.name), ordered=True)
    return replace(spread_along(rows_, last, arguments.integer("num_samples", 1), "draw"), selects=True)


def too_large(arguments: Arguments) -> Result:
    raise UndecidableError(f"{arguments.op} makes a constant that is too large, or whose size depends on the data")


def shared(arguments: Arguments) -> Result:
    """A range too large to compute: a function of the index that is the same for all."""
    name = "end" if arguments.has("end") else "steps"
    steps = arguments.integer(name, 0) - arguments.integer("start", 0) if name == "end" else arguments.integer(name, 0)
    if arguments.has("step"):
        raise UndecidableError("a range in steps is too large to compute")
    return uniform((max(0, steps),), token(arguments.seed))


_SHAPED = ("zeros", "ones", "full", "empty")

TABLE: Table = rows(
    ("sym_size.int size.int", size),
    ("sym_numel.default numel.default", count),
    (
        " ".join(f"{name}.default {name}_like.default new_{name}.default" for name in _SHAPED)
        + " empty.memory_format empty_permuted.default",
        filled,
    ),
    ("scalar_tensor.default", scalar),
    (
        "rand.default randn.default randint.default randint.low rand_like.default randn_like.default"
        " randint_like.default randint_like.low_dtype uniform.default normal_functional.default normal.float_float"
        " normal.default random.default random.from random.to exponential.default geometric.default cauchy.default"
        " log_normal.default",
        random,
    ),
    ("bernoulli.default bernoulli.p bernoulli.Tensor bernoulli.float bernoulli.Tensor_functional", random_about),
    ("normal.Tensor_Tensor normal.Tensor_float normal.float_Tensor poisson.default binomial.default", random_about),
    ("randperm.default", permutation),
    ("multinomial.default", multinomial),
    ("arange.default arange.start linspace.default", shared),
    ("arange.start_step logspace.default eye.default eye.m tril_indices.default triu_indices.default", too_large),
)
