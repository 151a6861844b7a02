"""ATen operators that sum products: matrix products, einsum, attention."""

from __future__ import annotations

import math

import numpy as np

from bn_audit.flow.algebra import Operand, added, pointwise
from bn_audit.flow.aten_operators.arguments import Arguments, Table, rows
from bn_audit.flow.aten_operators.elementwise import scaled_by
from bn_audit.flow.aten_operators.shaping import swapped
from bn_audit.flow.call import Result
from bn_audit.flow.cells import EACH, Cells, ShapeConflictError, UndecidableError, less_certain
from bn_audit.flow.choice import chosen
from bn_audit.flow.coarsening import fitting
from bn_audit.flow.constants import Constant
from bn_audit.flow.contraction import contracted, hidden_axes, matrix_product, without_ellipsis
from bn_audit.flow.movement import reshaped, tiled, transposed
from bn_audit.flow.reduction import normalised, reduced, softmax
from bn_audit.flow.values import operand

MATMUL = "matmul"
"""Every matrix product is the same function of its operands."""


def matmul(arguments: Arguments) -> Result:
    names = {"aten.mv": ("self", "vec"), "aten.dot": ("self", "tensor"), "aten.vdot": ("self", "other")}
    default = ("self", "other" if arguments.has("other") else "mat2")
    left, right = names.get(arguments.op, default)
    return multiplied(MATMUL, arguments.operand(left), arguments.operand(right))


def multiplied(seed: object, left: Operand, right: Operand) -> Cells:
    """Return a matrix product, of operands with no more cells than it takes."""
    letters = "abcdefghijklmnopqrstuvw"
    if len(left.shape) >= 2 <= len(right.shape):
        terms = [letters[: n - 2][::-1] + pair for n, pair in ((len(left.shape), "xy"), (len(right.shape), "yz"))]
        left, right = fitting([left, right], terms)
    return matrix_product(seed, left, right)


def linear(arguments: Arguments) -> Result:
    """``input @ weight.T + bias``."""
    return projected(arguments.operand("input"), arguments.operand("weight"), arguments.optional("bias"))


def projected(features: Operand, weight: Operand, bias: Operand | None) -> Cells:
    """Return a linear layer; weight of shape (O, I) or (I,), bias of shape (O,)."""
    lead = "abcdefghijklmnopqrstuvw"[: len(features.shape) - 1]
    out = "y" if len(weight.shape) == 2 else ""
    terms = [lead + "x", out + "x"]
    result = contracted(MATMUL, fitting([features, weight], terms), terms, lead + out)
    return result if bias is None else added("add", [result, bias])


def add_matmul(arguments: Arguments) -> Result:
    pairs = (("mat1", "mat2"), ("batch1", "batch2"), ("mat", "vec"), ("vec1", "vec2"))
    left, right = next((pair for pair in pairs if arguments.has(pair[0])), pairs[0])
    one, other = arguments.operand(left), arguments.operand(right)
    if arguments.op == "aten.addr":
        total = contracted("outer", [one, other], ["x", "y"], "xy")
    else:
        total = multiplied(MATMUL, one, other)
    if arguments.op == "aten.addbmm":
        total = reduced(total, (0,), "aten.sum", keep=False, kind="sum")
    scaled = scaled_by(arguments, total, "alpha")
    return added("add", [scaled_by(arguments, arguments.operand("self"), "beta"), scaled])


def outer(arguments: Arguments) -> Result:
    return contracted("outer", [arguments.operand("self"), arguments.operand("vec2")], ["x", "y"], "xy")


def einsum(arguments: Arguments) -> Result:
    operands = arguments.operands("tensors")
    left, arrow, out = arguments.text("equation", "").replace(" ", "").partition("->")
    terms = without_ellipsis(left.split(","), operands)
    dots = hidden_axes(terms)
    letters = "".join(terms)
    if not arrow:
        out = dots + "".join(sorted(x for x in set(letters) if letters.count(x) == 1 and x.isalpha()))
    out = out.replace("...", dots)
    if len(terms) != len(operands) or not set(out) <= set(letters):
        raise ShapeConflictError(f"{len(operands)} operands for the equation {left}->{out}")
    if any(len(set(term)) != len(term) for term in terms):
        raise UndecidableError("an einsum takes a diagonal")
    return contracted(("einsum", tuple(terms), out), fitting(operands, terms), terms, out)


def bilinear(arguments: Arguments) -> Result:
    """``input1 @ weight[o] @ input2``, weight of shape (O, I, J)."""
    one, other = arguments.operand("input1"), arguments.operand("input2")
    lead = "abcdefgh"[: len(one.shape) - 1]
    operands = [one, arguments.operand("weight"), other]
    result = contracted("bilinear", operands, [lead + "x", "zxy", lead + "y"], lead + "z")
    bias = arguments.optional("bias")
    return result if bias is None else added("add", [result, bias])


def distances(arguments: Arguments) -> Result:
    """Distances between all rows of two arrays, shapes (..., P, M) and (..., R, M)."""
    one = arguments.cells("x1" if arguments.has("x1") else "self")
    other = arguments.cells("x2" if arguments.has("x2") else "self")
    left = reshaped(one, (*one.shape[:-1], 1, one.shape[-1]))
    right = reshaped(other, (*other.shape[:-2], 1, *other.shape[-2:]))
    difference = added("sub", [left, right], minus=True)
    return reduced(difference, (difference.rank - 1,), arguments.seed, keep=False)


def similarity(arguments: Arguments) -> Result:
    """Cosine similarity or distance of corresponding vectors along an axis."""
    names = ("x1", "x2")
    paired = pointwise(arguments.seed, [arguments.operand(name) for name in names])
    axis = arguments.axis("dim", 1 if arguments.op == "aten.cosine_similarity" else -1, paired.rank)
    return reduced(paired, (axis,), arguments.seed, keep=arguments.flag("keepdim", False))


def of_matrices(arguments: Arguments) -> Result:
    """A function of each matrix along the last two axes, its result as large as the matrix."""
    operand = arguments.operand("A" if arguments.has("A") else "self")
    rank = len(operand.shape)
    return normalised(arguments.seed, operand, (rank - 2, rank - 1), kind="other")


def determinant(arguments: Arguments) -> Result:
    operand = arguments.operand("A" if arguments.has("A") else "self")
    rank = len(operand.shape)
    return reduced(operand, (rank - 2, rank - 1), arguments.seed, keep=False, ordered=True)


def attention(arguments: Arguments) -> Result:
    """Scaled dot-product attention: query (..., L, E), key (..., S, E), value (..., S, V)."""
    query, key, value = (arguments.cells(name) for name in ("query", "key", "value"))
    if arguments.flag("enable_gqa", False):
        key, value = (_repeated_heads(cells, query.shape[-3]) for cells in (key, value))
    score = scores(arguments, query, key)
    mask = next((arguments.operand(name) for name in ("attn_mask", "attn_bias") if arguments.has(name)), None)
    if mask is not None:
        score = masked(score, mask, is_bool=arguments.dtype_of(mask) == "bool")
    result = multiplied(MATMUL, softmax("softmax", score, (score.rank - 1,)), value)
    if isinstance(mask, Cells):
        # What the data hides may be just what belongs to other samples.
        result = less_certain(result)
    statistic = reduced(score, (score.rank - 1,), "aten.logsumexp", keep=False, kind="exponential")
    return (result, statistic)[: len(arguments.call.node.outputs)]


def scores(arguments: Arguments, query: Cells, key: Cells) -> Cells:
    """Return the scores before the softmax, minus infinity where a causal mask hides them."""
    scale = arguments.raw("scale")
    score = multiplied((MATMUL, "scaled", scale if isinstance(scale, float) else None), query, swapped(key, -1, -2))
    if not arguments.flag("is_causal", False):
        return score
    rows_, columns = score.shape[-2:]
    if EACH in score.kinds[-2:]:
        seen = np.tril(np.ones((rows_, columns), bool))
        hidden = arguments.constant(np.asarray(-np.inf, np.float32))
        return chosen("where", arguments.constant(seen), score, hidden)
    return pointwise(("causal", rows_, columns), [score])


def masked(score: Cells, mask: Operand, *, is_bool: bool) -> Cells:
    """Return the scores with a mask added; a mask of truth values hides where it is false."""
    values = mask.values() if isinstance(mask, Constant) else None
    if isinstance(mask, Constant) and values is not None and values.dtype == np.bool_:
        mask = Constant(mask.ledger, values=np.where(values, 0.0, -np.inf).astype(np.float32))
    elif is_bool:
        return pointwise("masked", [score, mask])
    return added("add", [score, mask])


def _repeated_heads(cells: Cells, heads: int) -> Cells:
    """Return keys or values with each head repeated for its group of queries."""
    own = cells.shape[-3]
    if own == heads:
        return cells
    opened = reshaped(cells, (*cells.shape[:-2], 1, *cells.shape[-2:]))
    return reshaped(tiled(opened, opened.rank - 3, heads // own), (*cells.shape[:-3], heads, *cells.shape[-2:]))


def fast_attention(arguments: Arguments) -> Result:
    """Multi-head attention as one operator: query, key and value of shape (N, L, E), always batch first."""
    query, key = arguments.cells("query"), arguments.cells("key")
    return _attended(arguments, [query, key, arguments.cells("value")], "mask")


def encoder_layer(arguments: Arguments) -> Result:
    """A transformer encoder layer as one operator: tokens (N, L, E), always batch first."""
    return _attended(arguments, [arguments.cells("src")], "mask")


def _attended(arguments: Arguments, operands: list[Cells], mask: str) -> Cells:
    """Return (N, L, E), each token computed from all tokens of its own row."""
    query = operands[0]
    wholes = [reduced(cells, (1, 2), ("tokens", index)) for index, cells in enumerate(operands)]
    if arguments.has(mask):
        given = arguments.cells(mask)
        rows_ = given.rank != 2 or given.shape[0] == query.shape[0]
        whole = reduced(given, range(1 if rows_ else 0, given.rank), "mask")
        wholes.append(reshaped(whole, (whole.shape[0], 1, 1)))
    names = [name for name in arguments.call.node.attributes if "weight" in name or "bias" in name]
    weights = [operand(value) for value in map(arguments.value, names) if value is not None]
    wholes += [reduced(weight, range(len(weight.shape)), "weight", keep=False) for weight in weights]
    result = pointwise((arguments.seed, "attended"), [query, reduced(query, (2,), "own"), *wholes])
    return less_certain(result) if arguments.has(mask) else result


def gram(arguments: Arguments) -> Result:
    """``tensordot``: the named axes of both are summed, the others stay in order."""
    one, other = arguments.cells("self"), arguments.cells("other")
    first, second = arguments.integers("dims_self") or (), arguments.integers("dims_other") or ()
    left = [axis for axis in range(one.rank) if axis not in {d % one.rank for d in first}]
    right = [axis for axis in range(other.rank) if axis not in {d % other.rank for d in second}]
    moved = transposed(one, [*left, *(d % one.rank for d in first)])
    turned = transposed(other, [*(d % other.rank for d in second), *right])
    rows_, inner = [one.shape[a] for a in left], [one.shape[d] for d in first]
    columns = [other.shape[a] for a in right]
    flat = multiplied(
        MATMUL,
        reshaped(moved, (math.prod(rows_), math.prod(inner))),
        reshaped(turned, (math.prod(inner), math.prod(columns))),
    )
    return reshaped(flat, (*rows_, *columns))


TABLE: Table = rows(
    ("matmul.default mm.default bmm.default mv.default dot.default vdot.default linalg_matmul.default", matmul),
    ("linear.default", linear),
    ("addmm.default baddbmm.default addmv.default addbmm.default addr.default", add_matmul),
    ("outer.default ger.default", outer),
    ("einsum.default", einsum),
    ("tensordot.default", gram),
    ("bilinear.default _trilinear.default", bilinear),
    ("cdist.default _cdist_forward.default _euclidean_dist.default", distances),
    ("cosine_similarity.default pairwise_distance.default", similarity),
    (
        "linalg_inv.default inverse.default linalg_inv_ex.default linalg_pinv.default linalg_cholesky.default",
        of_matrices,
    ),
    ("linalg_cholesky.default matrix_exp.default linalg_matrix_exp.default", of_matrices),
    ("linalg_det.default det.default logdet.default trace.default", determinant),
    (
        "scaled_dot_product_attention.default _scaled_dot_product_flash_attention_for_cpu.default"
        " _scaled_dot_product_flash_attention.default _scaled_dot_product_efficient_attention.default"
        " _scaled_dot_product_attention_math.default _scaled_dot_product_cudnn_attention.default"
        " _scaled_dot_product_fused_attention_overrideable.default _scaled_dot_product_attention_math_for_mps.default",
        attention,
    ),
    ("_native_multi_head_attention.default", fast_attention),
    ("_transformer_encoder_layer_fwd.default", encoder_layer),
)
