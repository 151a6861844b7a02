"""Attention operators of ONNX and of onnxruntime."""

from __future__ import annotations

import math

import numpy as np

from bn_audit.flow.algebra import Operand, added, as_cells, pointwise
from bn_audit.flow.call import Call, Handler, Result
from bn_audit.flow.cells import EACH, Cells, ShapeConflictError, UndecidableError
from bn_audit.flow.choice import chosen
from bn_audit.flow.contraction import contracted, matrix_product
from bn_audit.flow.joining import concatenated, padded
from bn_audit.flow.movement import reshaped, sliced, transposed
from bn_audit.flow.reduction import normalised, reduced, softmax

MAX_MASK = 1 << 20


def heads_apart(cells: Cells, heads: int) -> Cells:
    """Return (B, S, heads * D) as (B, heads, S, D)."""
    if cells.rank != 3 or heads < 1 or cells.shape[2] % heads:
        raise ShapeConflictError(f"{heads} heads of {cells.shape}")
    batch, length, width = cells.shape
    return transposed(reshaped(cells, (batch, length, heads, width // heads)), (0, 2, 1, 3))


def heads_together(cells: Cells) -> Cells:
    """Return (B, heads, S, D) as (B, S, heads * D)."""
    batch, heads, length, width = cells.shape
    return reshaped(transposed(cells, (0, 2, 1, 3)), (batch, length, heads * width))


def attended(
    call: Call, query: Cells, key: Cells, value: Cells, *, mask: Operand | None = None, causal: bool = False
) -> tuple[Cells, Cells]:
    """Return the attention of queries (B, heads, S, D) to keys (B, groups, L, D) and values (B, groups, L, V), and its
    weights (B, heads, S, L).
    """
    batch, heads, length, width = query.shape
    groups = key.shape[1]
    if groups == 0 or heads % groups:
        raise ShapeConflictError(f"{heads} heads for {groups} groups of keys")
    split = reshaped(query, (batch, groups, heads // groups, length, width))
    scores = contracted("scores", [split, key], ["bghsd", "bgld"], "bghsl")
    scores = reshaped(scores, (batch, heads, length, key.shape[2]))
    if causal and EACH in scores.kinds[2:]:
        scores = _causal(call, scores)
    if mask is not None:
        scores = _masked(call, scores, mask)
    shares = softmax(("attention", causal, call.seed), scores, (3,))
    weights = reshaped(shares, (batch, groups, heads // groups, length, key.shape[2]))
    result = contracted("attended", [weights, value], ["bghsl", "bglv"], "bghsv")
    return reshaped(result, (batch, heads, length, value.shape[3])), shares


def _causal(call: Call, scores: Cells) -> Cells:
    rows, columns = scores.shape[2:]
    if rows * columns > MAX_MASK:
        raise UndecidableError("a causal mask is too large to follow")
    lowest = call.constant(np.array(-np.inf, np.float32))
    lower = np.tril(np.ones((rows, columns), bool), columns - rows)
    return chosen("causal", call.constant(lower), scores, lowest)


def _masked(call: Call, scores: Cells, mask: Operand) -> Cells:
    short = scores.shape[3] - mask.shape[-1] if mask.shape and mask.shape[-1] > 1 else 0
    if short > 0:
        # A mask that ends before the keys do hides those behind its end.
        lowest = as_cells(call.constant(np.array(-np.inf, np.float32)))
        mask = padded(as_cells(mask), len(mask.shape) - 1, 0, short, fill=lowest, mode="constant")
    values = mask.values() if not isinstance(mask, Cells) else None
    if values is not None and values.dtype == np.bool_:
        return chosen("mask", mask, scores, call.constant(np.array(-np.inf, np.float32)))
    return added("Add", [scores, mask])


def attention(call: Call) -> Result:
    """The standard operator, of three or four axes, with an optional cache of keys and values."""
    query, key, value = (as_cells(call.operand(index)) for index in range(3))
    flat = query.rank == 3
    if flat:
        query = heads_apart(query, call.integer("q_num_heads", 1))
        groups = call.integer("kv_num_heads", 1)
        key, value = heads_apart(key, groups), heads_apart(value, groups)
    if call.has(4):
        key, value = (
            concatenated([call.operand(4), key], 2),
            concatenated([call.operand(5), value], 2),
        )
    mask = call.operand(3) if call.has(3) else None
    if call.has(6):
        lengths = as_cells(call.operand(6))
        key = pointwise("length", [key, reshaped(lengths, (lengths.shape[0], 1, 1, 1))], selects=False)
    result, weights = attended(call, query, key, value, mask=mask, causal=bool(call.integer("is_causal", 0)))
    return (heads_together(result) if flat else result), key, value, weights


def multi_head(call: Call) -> Result:
    """com.microsoft.MultiHeadAttention with separate queries, keys and values."""
    if not call.has(1) or not call.has(2) or len(call.operand(1).shape) not in (3, 4):
        raise UndecidableError("it is given packed queries, keys and values")
    heads = call.integer("num_heads", 1)
    query, key, value = (as_cells(call.operand(index)) for index in range(3))
    if call.has(3):
        bias = as_cells(call.operand(3))
        ends = np.cumsum([0, query.shape[-1], query.shape[-1]])
        widths = (query.shape[-1], query.shape[-1], bias.shape[0] - 2 * query.shape[-1])
        parts = [sliced(bias, 0, int(start), 1, width) for start, width in zip(ends, widths, strict=True)]
        query = added("Add", [query, parts[0]])
        key = added("Add", [key, parts[1]]) if key.rank == 3 else key
        value = added("Add", [value, parts[2]]) if value.rank == 3 else value
    query = heads_apart(query, heads)
    key, value = (cells if cells.rank == 4 else heads_apart(cells, heads) for cells in (key, value))
    if call.has(6):
        key, value = concatenated([call.operand(6), key], 2), concatenated([call.operand(7), value], 2)
    if call.has(4):
        key = _padded_keys(key, as_cells(call.operand(4)))
    mask = call.operand(5) if call.has(5) else None
    result, _ = attended(call, query, key, value, mask=mask, causal=bool(call.integer("unidirectional", 0)))
    return heads_together(result), key, value


def _padded_keys(key: Cells, mask: Cells) -> Cells:
    """Return the keys (B, heads, L, D) as a mask of shape (B,) or (B, L) hides some of them."""
    if mask.shape == (key.shape[0],):
        return pointwise("lengths", [key, reshaped(mask, (key.shape[0], 1, 1, 1))], selects=False)
    if mask.shape == (key.shape[0], key.shape[2]):
        return pointwise("padding", [key, reshaped(mask, (key.shape[0], 1, key.shape[2], 1))], selects=False)
    raise UndecidableError(f"a mask of shape {mask.shape} is not followed")


def packed_attention(call: Call) -> Result:
    """com.microsoft.Attention: (B, S, I) by packed weights (I, 3 H)."""
    signal, weight = as_cells(call.operand(0)), call.operand(1)
    projected = matrix_product("MatMul", signal, weight)
    if call.has(2):
        projected = added("Add", [projected, call.operand(2)])
    heads = call.integer("num_heads", 1)
    widths = call.integers("qkv_hidden_sizes") or (projected.shape[2] // 3,) * 3
    starts = np.cumsum([0, *widths[:-1]])
    parts = [sliced(projected, 2, int(start), 1, width) for start, width in zip(starts, widths, strict=True)]
    query, key, value = (heads_apart(part, heads) for part in parts)
    present = concatenated([reshaped(cells, (1, *cells.shape)) for cells in (key, value)], 0)
    if call.has(4):
        present = concatenated([call.operand(4), present], 3)
        key, value = (reshaped(sliced(present, 0, i, 1, 1), present.shape[1:]) for i in (0, 1))
    if call.has(3):
        key = _padded_keys(key, as_cells(call.operand(3)))
    mask = call.operand(5) if call.has(5) else None
    result, _ = attended(call, query, key, value, mask=mask, causal=bool(call.integer("unidirectional", 0)))
    return heads_together(result), present


def grouped(call: Call) -> Result:
    """com.microsoft.GroupQueryAttention: causal, with a cache and the length of each sequence."""
    if not call.has(1) or not call.has(2):
        raise UndecidableError("it is given packed queries, keys and values")
    heads, groups = call.integer("num_heads", 1), call.integer("kv_num_heads", 1)
    query = heads_apart(as_cells(call.operand(0)), heads)
    key, value = (heads_apart(as_cells(call.operand(index)), groups) for index in (1, 2))
    if call.has(3):
        key, value = concatenated([call.operand(3), key], 2), concatenated([call.operand(4), value], 2)
    for index in (5, 6, 7, 8, 9):
        if call.has(index):
            given = as_cells(call.operand(index))
            per_row = given.rank >= 1 and given.shape[0] == query.shape[0] and index in (5, 9)
            one = reduced(given, range(1 if per_row else 0, given.rank), ("grouped", index), keep=False, ordered=True)
            key = pointwise(("setting", index), [key, reshaped(one, (query.shape[0], 1, 1, 1)) if per_row else one])
    result, _ = attended(call, query, key, value, causal=True)
    return heads_together(result), key, value


def rotary(call: Call) -> Result:
    """Rotary position embedding: pairs of features of a token are turned by an angle that its position gives."""
    microsoft = call.node.domain == "com.microsoft"
    cells = as_cells(call.operand(0))
    order = (1, 2, 3) if microsoft else (3, 1, 2)
    if not call.has(order[0]):
        tables = [as_cells(call.operand(index)) for index in order[1:]]
        return pointwise(call.seed, [_pairs(cells, call), *(_angles(table, cells, call) for table in tables)])
    places = as_cells(call.operand(order[0]))
    result = _pairs(cells, call)
    seq = cells.rank - 2 if cells.rank == 4 and not call.integer("is_packed_batching", 0) else 1
    if places.shape == (cells.shape[0], cells.shape[seq]):
        shape = tuple(n if axis in (0, seq) else 1 for axis, n in enumerate(cells.shape))
        result = pointwise((call.seed, "places"), [result, reshaped(places, shape)], selects=False)
    elif math.prod(places.shape) == 1:
        result = pointwise((call.seed, "places"), [result, reshaped(places, ())], selects=False)
    else:
        raise UndecidableError(f"positions of shape {places.shape} are not followed")
    for index in order[1:]:
        table = reduced(call.operand(index), range(len(call.operand(index).shape)), ("table", index), keep=False)
        result = pointwise((call.seed, index), [result, table], selects=False)
    return result


def _pairs(cells: Cells, call: Call) -> Cells:
    """Return the array with each feature a function of two."""
    return normalised((call.seed, "pairs"), cells, (cells.rank - 1,), kind="other")


def _angles(table: Cells, cells: Cells, call: Call) -> Cells:
    """Return a table of angles (B, S, D / 2), as one function of each token of the array."""
    one = reduced(table, (table.rank - 1,), (call.seed, "angles"), ordered=True)
    if cells.rank == 4 and one.rank == 3:
        return reshaped(one, (one.shape[0], 1, one.shape[1], 1))
    return one


TABLE: dict[str, Handler] = {"Attention": attention, "RotaryEmbedding": rotary}

MICROSOFT: dict[str, Handler] = {
    "Attention": packed_attention,
    "MultiHeadAttention": multi_head,
    "GroupQueryAttention": grouped,
    "RotaryEmbedding": rotary,
}
