"""ATen operators that reduce axes, scan along them or order what lies along them."""

from __future__ import annotations

from dataclasses import replace

from bn_audit.flow.algebra import Operand, as_cells, pointwise
from bn_audit.flow.aten_operators.arguments import Arguments, Table, rows
from bn_audit.flow.call import Result
from bn_audit.flow.cells import LINE, SAME, Cells, ShapeConflictError, UndecidableError
from bn_audit.flow.movement import axis_of, broadcast, reshaped
from bn_audit.flow.reduction import normalised, reduced, running, softmax
from bn_audit.flow.tokens import mixed, token

KINDS = {
    "aten.sum": "sum",
    "aten.mean": "mean",
    "aten.amax": "max",
    "aten.amin": "min",
    "aten.max": "max",
    "aten.min": "min",
    "aten.logsumexp": "exponential",
}
"""What each reduction does with equal elements and with zeros; any other does neither."""

MASKS = frozenset(("aten.any", "aten.all", "aten.equal", "aten.count_nonzero", "aten.is_nonzero"))
"""Reductions whose results may be zero depending on the data."""

_SETTINGS = ("correction", "unbiased", "p", "ord", "q", "interpolation", "k")


def axes_of(arguments: Arguments, rank: int) -> tuple[int, ...]:
    """Return the axes of a reduction: those named, or all."""
    return arguments.axes("dim", rank)


def seed_of(arguments: Arguments) -> tuple[object, ...]:
    """Return what tells a reduction from others, its axes and whether they stay left out."""
    raw = arguments.call.node.attributes
    settings = tuple((name, raw[name]) for name in _SETTINGS if isinstance(raw.get(name), bool | int | float | str))
    return (arguments.op, settings)


def over_axes(arguments: Arguments, seed: object, *, ordered: bool = False) -> Cells:
    """Return a reduction of the axes that the call names."""
    operand = arguments.operand("self")
    axes = axes_of(arguments, len(operand.shape))
    keep = arguments.flag("keepdim", False)
    kind = KINDS.get(arguments.op, "other")
    return reduced(operand, axes, seed, keep=keep, kind=kind, ordered=ordered)


def reduce(arguments: Arguments) -> Result:
    result = over_axes(arguments, seed_of(arguments))
    return replace(result, selects=True) if arguments.op in MASKS else result


def pair(arguments: Arguments) -> Result:
    """Variance or deviation with the mean, or minimum with maximum."""
    return over_axes(arguments, (seed_of(arguments), 0)), over_axes(arguments, (seed_of(arguments), 1))


def place(arguments: Arguments) -> Result:
    return replace(over_axes(arguments, seed_of(arguments), ordered=True), selects=True)


def extreme_with_place(arguments: Arguments) -> Result:
    """Maximum, minimum, median or mode along an axis, and where it stands."""
    value = over_axes(arguments, seed_of(arguments))
    return value, replace(over_axes(arguments, (seed_of(arguments), "place"), ordered=True), selects=True)


def k_th(arguments: Arguments) -> Result:
    operand = arguments.operand("self")
    axis = arguments.axis("dim", -1, len(operand.shape))
    keep = arguments.flag("keepdim", False)
    value = reduced(operand, (axis,), seed_of(arguments), keep=keep, ordered=True)
    return value, places(value)


def quantile(arguments: Arguments) -> Result:
    """Several quantiles lie along a new first axis."""
    cells = over_axes(arguments, ("quantile", arguments.raw("interpolation")))
    wanted = arguments.operand("q")
    opened = reshaped(cells, (*(1,) * len(wanted.shape), *cells.shape))
    q = reshaped(as_cells(wanted), (*wanted.shape, *(1,) * cells.rank))
    return pointwise("quantile", [opened, q])


def norm(arguments: Arguments) -> Result:
    """A vector norm; ``p`` or ``ord`` says which."""
    return over_axes(arguments, ("norm", arguments.raw("p"), arguments.raw("ord")))


def cumulative(arguments: Arguments) -> Result:
    operand = arguments.operand("self")
    if not operand.shape:
        return operand
    axis = arguments.axis("dim", 0, len(operand.shape))
    result = running(arguments.op, operand, axis, sums=arguments.op == "aten.cumsum")
    if arguments.op in ("aten.cummax", "aten.cummin"):
        return result, places(result)
    return result


def soft_max(arguments: Arguments) -> Result:
    operand = arguments.operand("self")
    if not operand.shape:
        return pointwise(arguments.op, [operand])
    axis = arguments.axis("dim", -1, len(operand.shape))
    if arguments.op in ("aten.softmax", "aten._softmax", "aten._safe_softmax"):
        return softmax("softmax", operand, (axis,))
    return normalised("log_softmax", operand, (axis,), kind="exponential")


def sort(arguments: Arguments) -> Result:
    operand = arguments.operand("self")
    if not operand.shape:
        return operand, operand
    axis = arguments.axis("dim", -1, len(operand.shape))
    order = ("sort", arguments.flag("descending", False))
    values = along(operand, axis, operand.shape[axis], order)
    if arguments.op == "aten.argsort":
        return places(values)
    return replace(values, selects=as_cells(operand).selects), places(values)


def top_k(arguments: Arguments) -> Result:
    operand = arguments.operand("self")
    axis = arguments.axis("dim", -1, len(operand.shape))
    count = arguments.integer("k", 1)
    if not 0 <= count <= operand.shape[axis]:
        raise ShapeConflictError(f"the top {count} of an axis of {operand.shape[axis]}")
    best = along(operand, axis, count, ("topk", arguments.flag("largest", True)))
    return replace(best, selects=as_cells(operand).selects), places(best)


def places(values: Cells) -> Cells:
    """Return where the values stand, as another function of the same elements."""
    return pointwise("places", [values], selects=True)


def along(operand: Operand, axis: int, count: int, seed: object) -> Cells:
    """Return `count` results along an axis, each computed from the whole of it."""
    return spread_along(reduced(operand, (axis,), seed, ordered=True), axis, count, seed)


def spread_along(cells: Cells, axis: int, count: int, seed: object) -> Cells:
    """Return the array with `count` different functions of each element along an axis of size 1."""
    wide = broadcast(cells, (*cells.shape[:axis], count, *cells.shape[axis + 1 :]))
    kinds = (*wide.kinds[:axis], LINE if count > 1 else SAME, *wide.kinds[axis + 1 :])
    by = token("spread", seed, cells.lines_before(axis), count)
    return replace(wide, kinds=kinds, forms=mixed(wide.forms, by))


def transform(arguments: Arguments) -> Result:
    """A Fourier transform: every result along the axes depends on all elements along them."""
    operand = arguments.operand("self")
    rank = len(operand.shape)
    given = arguments.integers("dim")
    default = range(rank - 2, rank) if arguments.op.endswith("2") else range(rank - 1, rank)
    axes = [axis_of(axis, rank) for axis in given] if given else list(default)
    if arguments.op.endswith("n") and not given:
        axes = list(range(rank))
    sizes = [operand.shape[axis] for axis in axes]
    if arguments.op in ("aten._fft_c2r", "aten.fft_irfft"):
        last = "last_dim_size" if arguments.op == "aten._fft_c2r" else "n"
        sizes[-1] = arguments.integer(last, 2 * (sizes[-1] - 1))
    elif arguments.has("n") or arguments.has("s"):
        raise UndecidableError("a Fourier transform of another length is not followed")
    elif arguments.op in ("aten.fft_rfft", "aten.fft_rfft2", "aten.fft_rfftn") or arguments.flag("onesided", False):
        sizes[-1] = sizes[-1] // 2 + 1
    elif arguments.op in ("aten.fft_irfft2", "aten.fft_irfftn"):
        sizes[-1] = 2 * (sizes[-1] - 1)
    result = reduced(operand, axes, arguments.seed, ordered=True)
    for axis, size in zip(axes, sizes, strict=True):
        result = spread_along(result, axis, size, (arguments.op, axis))
    return result


def histogram(arguments: Arguments) -> Result:
    operand = arguments.operand("self")
    bins = arguments.integer("bins", 100)
    whole = reduced(operand, range(len(operand.shape)), arguments.seed, keep=False)
    return replace(spread_along(reshaped(whole, (1,)), 0, bins, "histogram"), selects=True)


TABLE: Table = rows(
    (
        "sum.default sum.dim_IntList mean.default mean.dim amax.default amin.default max.default min.default"
        " prod.default prod.dim_int var.default var.dim var.correction std.default std.dim std.correction"
        " nansum.default nanmean.default logsumexp.default any.default any.dim any.dims all.default all.dim all.dims"
        " count_nonzero.default count_nonzero.dim_IntList median.default nanmedian.default",
        reduce,
    ),
    ("var_mean.default var_mean.dim var_mean.correction std_mean.default std_mean.dim std_mean.correction", pair),
    ("aminmax.default", pair),
    ("argmax.default argmin.default", place),
    ("max.dim min.dim median.dim nanmedian.dim mode.default", extreme_with_place),
    ("kthvalue.default", k_th),
    ("quantile.default quantile.scalar nanquantile.default nanquantile.scalar", quantile),
    ("linalg_vector_norm.default norm.ScalarOpt_dim norm.Scalar norm.ScalarOpt_dim_dtype norm.ScalarOpt_dtype", norm),
    ("linalg_norm.default frobenius_norm.dim", norm),
    ("cumsum.default cumprod.default cummax.default cummin.default logcumsumexp.default", cumulative),
    ("softmax.int _softmax.default _safe_softmax.default log_softmax.int _log_softmax.default", soft_max),
    ("sort.default sort.stable msort.default argsort.default argsort.stable", sort),
    ("topk.default", top_k),
    ("_fft_r2c.default _fft_c2c.default _fft_c2r.default fft_fft.default fft_ifft.default fft_rfft.default", transform),
    ("fft_irfft.default fft_fft2.default fft_ifft2.default fft_rfft2.default fft_irfft2.default", transform),
    ("fft_fftn.default fft_ifftn.default fft_rfftn.default fft_irfftn.default", transform),
    ("histc.default", histogram),
)
