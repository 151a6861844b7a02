"""ONNX operators that sum products: matrix products, einsum, convolutions, pooling."""

from __future__ import annotations

import numpy as np

from bn_audit.flow.algebra import Operand, added, as_cells, product
from bn_audit.flow.call import Call, Handler, Result
from bn_audit.flow.cells import Cells, ShapeConflictError
from bn_audit.flow.constants import Constant
from bn_audit.flow.contraction import contracted, hidden_axes, matrix_product, without_ellipsis
from bn_audit.flow.lookup import gathered
from bn_audit.flow.movement import reshaped, transposed
from bn_audit.flow.reduction import reduced
from bn_audit.flow.windows import Window, convolved, pooled, spread


def matmul(call: Call) -> Result:
    return matrix_product(call.seed, call.operand(0), call.operand(1))


def gemm(call: Call) -> Result:
    left, right = call.operand(0), call.operand(1)
    terms = ("yx" if call.integer("transA", 0) else "xy", "zy" if call.integer("transB", 0) else "yz")
    result: Cells = contracted(("MatMul", call.number("alpha", 1.0)), [left, right], terms, "xz")
    if call.has(2):
        scaled = product(("scale", call.number("beta", 1.0)), [call.operand(2)])
        result = added("Add", [result, scaled if call.number("beta", 1.0) != 1.0 else call.operand(2)])
    return result


def einsum(call: Call) -> Result:
    equation = call.text("equation", "").replace(" ", "")
    operands = call.operands()
    left, arrow, out = equation.partition("->")
    terms = without_ellipsis(left.split(","), operands)
    if not arrow:
        letters = "".join(terms)
        out = "".join(sorted(letter for letter in set(letters) if letters.count(letter) == 1 and letter.isalpha()))
        out = hidden_axes(terms) + out
    else:
        out = out.replace("...", hidden_axes(terms))
    if len(terms) != len(operands):
        raise ShapeConflictError(f"{len(operands)} operands for the equation {equation!r}")
    singles = [_diagonal(operand, term) for operand, term in zip(operands, terms, strict=True)]
    return contracted(call.seed, [operand for operand, _ in singles], [term for _, term in singles], out)


def _diagonal(operand: Operand, term: str) -> tuple[Operand, str]:
    cells: Operand = operand
    while len(set(term)) < len(term):
        letter = next(letter for letter in term if term.count(letter) > 1)
        first, second = term.index(letter), term.rindex(letter)
        cells = diagonal(as_cells(cells), first, second)
        term = term[:second] + term[second + 1 :]
    return cells, term


def diagonal(cells: Cells, first: int, second: int) -> Cells:
    """Return the elements at equal indices along two axes, with the second axis gone."""
    if cells.shape[first] != cells.shape[second]:
        raise ShapeConflictError(f"no diagonal of {cells.shape}")
    rest = [axis for axis in range(cells.rank) if axis not in (first, second)]
    front = transposed(cells, (first, second, *rest))
    steps = np.arange(cells.shape[first])
    taken = gathered(front, steps * (cells.shape[first] + 1), front.shape[1:], (0, 1))
    order = [0 if axis == first else 1 + rest.index(axis) for axis in range(cells.rank) if axis != second]
    return transposed(taken, order)


def windows_of(call: Call, spatial: tuple[int, ...], taps: tuple[int, ...]) -> list[Window]:
    """Return how the windows of a convolution or pooling slide over the axes of these sizes."""
    count = len(spatial)
    strides, dilations = call.integers("strides") or (1,) * count, call.integers("dilations") or (1,) * count
    pads = call.integers("pads") or (0,) * (2 * count)
    rule, ceil = call.text("auto_pad", "NOTSET"), call.integer("ceil_mode", 0)
    found = []
    for i, (size, tap) in enumerate(zip(spatial, taps, strict=True)):
        stride, reach = strides[i], (tap - 1) * dilations[i] + 1
        before, after = pads[i], pads[i + count]
        if rule in ("SAME_UPPER", "SAME_LOWER"):
            places = -(-size // stride)
            total = max(0, (places - 1) * stride + reach - size)
            before = total // 2 if rule == "SAME_UPPER" else -(-total // 2)
        else:
            before, after = (0, 0) if rule == "VALID" else (before, after)
            room = size + before + after - reach
            places = (-(-room // stride) if ceil else room // stride) + 1
            if ceil and (places - 1) * stride >= size + before:
                places -= 1
            if room < 0:
                raise ShapeConflictError(f"a window of {reach} is larger than an axis of {size}")
        found.append(Window(tap, stride, dilations[i], before, places))
    return found


def nothing(call: Call) -> Cells:
    """Return the cells of a zero, for padding."""
    return call.constant(np.zeros((), np.float32)).cells()


def conv(call: Call) -> Result:
    signal, weight = call.operand(0), call.operand(1)
    result = convolution(call, signal, weight)
    if call.has(2):
        result = with_bias(result, call.operand(2))
    return result


def convolution(call: Call, signal: Operand, weight: Operand, groups: int | None = None) -> Cells:
    """Return a convolution without bias, as the attributes of the call say."""
    if len(signal.shape) < 3 or len(signal.shape) != len(weight.shape):
        raise ShapeConflictError(f"a convolution of {signal.shape} by {weight.shape}")
    windows = windows_of(call, signal.shape[2:], weight.shape[2:])
    settings = tuple(call.integers(name) for name in ("strides", "dilations", "pads"))
    return convolved(settings, signal, weight, windows, groups or call.integer("group", 1), nothing(call))


def with_bias(result: Cells, bias: Operand) -> Cells:
    """Return (N, C, ...) plus a bias of shape (C,)."""
    return added("Add", [result, per_channel(bias, len(result.shape))])


def per_channel(operand: Operand, rank: int) -> Operand:
    """Return an array of shape (C,) as one that broadcasts along the second of `rank` axes."""
    shape = (operand.shape[0] if operand.shape else 1, *(1,) * (rank - 2))
    if isinstance(operand, Constant):
        return operand.reshaped(shape)
    return reshaped(operand, shape)


def conv_transpose(call: Call) -> Result:
    cells, weight = as_cells(call.operand(0)), call.operand(1)
    count = cells.rank - 2
    groups = call.integer("group", 1)
    strides, dilations = call.integers("strides") or (1,) * count, call.integers("dilations") or (1,) * count
    pads, extra = call.integers("pads") or (0,) * 2 * count, call.integers("output_padding") or (0,) * count
    given = call.integers("output_shape")
    sizes = []
    for i in range(count):
        reach = (weight.shape[2 + i] - 1) * dilations[i] + 1
        size = strides[i] * (cells.shape[2 + i] - 1) + extra[i] + reach - pads[i] - pads[i + count]
        if call.text("auto_pad", "NOTSET").startswith("SAME"):
            size = cells.shape[2 + i] * strides[i]
        sizes.append(given[-count:][i] if given else size)
    result = spread(call.seed, cells, weight, (cells.shape[0], weight.shape[1] * groups, *sizes))
    return with_bias(result, call.operand(2)) if call.has(2) else result


POOLS = {"MaxPool": "max", "AveragePool": "other", "LpPool": "other"}


def pool(call: Call) -> Result:
    operand = call.operand(0)
    taps = call.integers("kernel_shape")
    if taps is None or len(operand.shape) != len(taps) + 2:
        raise ShapeConflictError(f"a window of {taps} on {operand.shape}")
    windows = windows_of(call, operand.shape[2:], taps)
    pad = call.constant(np.array(-np.inf if call.node.op == "MaxPool" else 0.0, np.float32)).cells()
    result = pooled(call.seed, operand, windows, POOLS.get(call.node.op, "other"), pad)
    return result, result


def global_pool(call: Call) -> Result:
    operand = call.operand(0)
    kinds = {"GlobalAveragePool": "mean", "GlobalMaxPool": "max"}
    kind = kinds.get(call.node.op, "other")
    seed = {"mean": "ReduceMean", "max": "ReduceMax"}.get(kind, call.seed)
    return reduced(operand, range(2, len(operand.shape)), seed, kind=kind)


def det(call: Call) -> Result:
    operand = call.operand(0)
    rank = len(operand.shape)
    return reduced(operand, (rank - 2, rank - 1), call.seed, keep=False, ordered=True)


TABLE: dict[str, Handler] = {
    "MatMul": matmul,
    "Gemm": gemm,
    "Einsum": einsum,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    **dict.fromkeys(POOLS, pool),
    "GlobalAveragePool": global_pool,
    "GlobalMaxPool": global_pool,
    "GlobalLpPool": global_pool,
    "Det": det,
}
