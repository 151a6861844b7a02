"""The algebra of the batch flow: owners and forms of cells under each operation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from bn_audit.flow import cells as kinds
from bn_audit.flow.algebra import added, pointwise, product, quotient
from bn_audit.flow.cells import EACH, LINE, LOWEST, SAME, ZERO, Cells, explicit, may, per_sample, some, tidied
from bn_audit.flow.choice import chosen
from bn_audit.flow.constants import MAX_READ_BYTES, Constant, Ledger
from bn_audit.flow.contraction import contracted, matrix_product
from bn_audit.flow.joining import concatenated
from bn_audit.flow.lookup import looked_up
from bn_audit.flow.movement import broadcast, reshaped, sliced, taken, tiled, transposed
from bn_audit.flow.reduction import normalised, reduced, running, softmax
from bn_audit.subject.tensor import TensorRef

B = 3


@pytest.fixture(autouse=True)
def _wrapping() -> Iterator[None]:
    """Tokens are multiplied modulo 2**64."""
    with np.errstate(all="ignore"):
        yield


def samples(*shape: int, axis: int = 0, name: str = "x") -> Cells:
    whole = list(shape)
    whole.insert(axis, B)
    return per_sample(tuple(whole), axis, name, forgiving=False)


def constant(values: object, dtype: str = "float32") -> Constant:
    return Constant(Ledger(), values=np.asarray(values, dtype))


def owners_of(cells: Cells) -> np.ndarray:
    """Return the set of samples of every element, with all axes written out."""
    return np.broadcast_to(may(cells.owners), cells.shape)


def is_relative(cells: Cells, axis: int = 0) -> bool:
    """Whether the cells of all samples along an axis have the same forms."""
    forms = np.moveaxis(explicit(cells, (axis,)).forms, axis, 0)
    return bool((forms == forms[:1]).all())


def test_an_input_has_one_cell_for_each_sample() -> None:
    x = samples(4, 5)
    assert x.kinds == (EACH, LINE, LINE)
    assert may(x.owners).reshape(-1).tolist() == [1, 2, 4]
    assert is_relative(x)


def test_elementwise_functions_join_owners() -> None:
    x = samples(4)
    crossed = pointwise("add", [x, sliced(x, 0, B - 1, -1, B)])
    assert may(crossed.owners).reshape(-1).tolist() == [0b101, 0b010, 0b101]
    assert some(crossed.owners).reshape(-1).tolist() == [0b101, 0b010, 0b101]


def test_reducing_the_batch_joins_all() -> None:
    mean = reduced(samples(4), (0,), "mean", kind="mean")
    assert mean.shape == (1, 4)
    assert may(mean.owners).reshape(-1).tolist() == [0b111]
    assert may(reduced(samples(4), (1,), "mean", kind="mean").owners).reshape(-1).tolist() == [1, 2, 4]


@pytest.mark.parametrize("fold", [(B * 4, 5), (B, 20), (B * 20,), (2, B * 2, 5)])
def test_folding_and_unfolding_keeps_every_owner(fold: tuple[int, ...]) -> None:
    x = samples(4, 5)
    folded = reshaped(x, fold)
    expected = np.broadcast_to(np.array([1, 2, 4], np.uint64)[:, None, None], (B, 4, 5)).reshape(fold)
    assert (owners_of(folded) == expected).all()
    back = reshaped(folded, (B, 4, 5))
    assert (owners_of(back) == expected.reshape(B, 4, 5)).all()


def test_windows_come_back_to_their_samples() -> None:
    x = samples(4, 4, 6)
    cut = reshaped(transposed(reshaped(x, (B, 2, 2, 2, 2, 6)), (0, 1, 3, 2, 4, 5)), (B * 4, 4, 6))
    assert owners_of(cut)[:, 0, 0].tolist() == [1] * 4 + [2] * 4 + [4] * 4
    back = reshaped(transposed(reshaped(cut, (B, 2, 2, 2, 2, 6)), (0, 1, 3, 2, 4, 5)), (B, 4, 4, 6))
    assert owners_of(back)[:, 0, 0, 0].tolist() == [1, 2, 4]
    assert is_relative(back)


def test_repeating_keeps_or_confuses_the_order() -> None:
    rows = samples(4)
    tiled_rows = tiled(rows, 0, 2)
    assert owners_of(tiled_rows)[:, 0].tolist() == [1, 2, 4, 1, 2, 4]
    wide = broadcast(reshaped(rows, (B, 1, 4)), (B, 2, 4))
    assert owners_of(reshaped(wide, (2 * B, 4)))[:, 0].tolist() == [1, 1, 2, 2, 4, 4]


def test_the_same_element_has_the_same_form_however_it_is_reached() -> None:
    x = samples(4)
    one = sliced(x, 1, 2, 1, 1)
    other = sliced(explicit(x, (1,)), 1, 2, 1, 1)
    third = reshaped(taken(x, 1, np.array(2)), (B, 1))
    assert (one.forms == other.forms).all()
    assert (one.forms == third.forms).all()


def test_what_differs_along_the_batch_is_seen() -> None:
    x = samples(4)
    assert is_relative(added("Add", [x, constant([1, 2, 3, 4])]))
    assert is_relative(added("Add", [x, constant([[5], [5], [5]])]))
    assert not is_relative(added("Add", [x, constant([[5], [6], [5]])]))


def test_rounding_does_not_tell_samples_apart() -> None:
    x, ledger = samples(4), Ledger()
    close = Constant(ledger, values=np.array([[1.0], [1.0 + 2e-7], [1.0 - 2e-7]], np.float32))
    assert is_relative(added("Add", [x, close]))
    apart = Constant(ledger, values=np.array([[1.0], [1.0 + 1e-4], [1.0]], np.float32))
    assert not is_relative(added("Add", [x, apart]))


def test_zero_times_anything_is_zero() -> None:
    x = samples(4)
    mask = np.eye(B, dtype=np.float32)
    spread = product("Mul", [constant(mask[:, :, None]), reshaped(x, (1, B, 4))])
    assert owners_of(spread)[..., 0].tolist() == [[1, 0, 0], [0, 2, 0], [0, 0, 4]]
    whole = reduced(spread, (1,), "sum", keep=False, kind="sum")
    assert may(whole.owners).reshape(-1).tolist() == [1, 2, 4]
    assert is_relative(whole)
    assert (quotient("Div", constant(0.0), x).forms == ZERO).all()


def test_a_block_diagonal_matrix_keeps_samples_apart() -> None:
    nodes = reshaped(samples(2, 5), (B * 2, 5))
    block = np.kron(np.eye(B), np.array([[1, 2], [3, 4]])).astype(np.float32)
    apart = matrix_product("MatMul", constant(block), nodes)
    assert owners_of(apart)[:, 0].tolist() == [1, 1, 2, 2, 4, 4]
    rows = reshaped(apart, (B, 2, 5))
    assert is_relative(rows)
    dense = matrix_product("MatMul", constant(np.ones_like(block)), nodes)
    assert set(owners_of(dense).reshape(-1).tolist()) == {0b111}


def test_minus_infinity_counts_for_nothing_in_a_softmax() -> None:
    x = samples(4)
    scores = contracted("scores", [x, x], ["xd", "yd"], "xy")
    assert owners_of(scores).tolist() == [[1, 3, 5], [3, 2, 6], [5, 6, 4]]
    own = constant(np.eye(B), "bool")
    masked = chosen("mask", own, scores, constant(-np.inf))
    assert (masked.forms == LOWEST).sum() == B * (B - 1)
    weights = softmax("softmax", masked, (1,))
    assert owners_of(weights).tolist() == [[1, 0, 0], [0, 2, 0], [0, 0, 4]]
    result = matrix_product("MatMul", weights, x)
    assert may(result.owners).reshape(-1).tolist() == [1, 2, 4]


def test_equal_functions_cancel() -> None:
    x = samples(4)
    assert (added("Sub", [x, x], minus=True).forms == ZERO).all()
    mean = reduced(x, (0,), "mean", kind="mean")
    assert (added("Sub", [mean, mean], minus=True).forms == ZERO).all()
    turned = sliced(x, 0, B - 1, -1, B)
    difference = added("Sub", [x, turned], minus=True)
    assert (difference.forms == ZERO).reshape(-1).tolist() == [False, True, False]


def test_mixed_forms_tell_who_plays_which_role() -> None:
    x = samples(4)
    turned = sliced(x, 0, B - 1, -1, B)
    one, other = pointwise("less", [x, turned]), pointwise("less", [turned, x])
    assert (one.owners == other.owners).all()
    assert (one.forms != other.forms).reshape(-1).tolist() == [True, False, True]


def test_prefix_sums_know_who_came_before() -> None:
    total = running("CumSum", samples(4), 0, sums=True)
    assert may(total.owners).reshape(-1).tolist() == [0b001, 0b011, 0b111]
    exclusive = running("CumSum", samples(4), 0, exclusive=True, sums=True)
    assert may(exclusive.owners).reshape(-1).tolist() == [0b000, 0b001, 0b011]


def test_joined_tokens_keep_their_owners_apart() -> None:
    x = samples(2, 5)
    token = broadcast(constant(np.ones((1, 1, 5))).cells(), (B, 1, 5))
    whole = concatenated([token, x], 1)
    assert owners_of(whole)[:, :, 0].tolist() == [[0, 1, 1], [0, 2, 2], [0, 4, 4]]
    assert may(sliced(whole, 1, 0, 1, 1).owners).reshape(-1).tolist() == [0]


def test_a_norm_over_the_batch_mixes_and_one_within_does_not() -> None:
    x = samples(4, 5)
    assert set(owners_of(normalised("bn", x, (0, 2))).reshape(-1).tolist()) == {0b111}
    assert may(normalised("in", x, (2,)).owners).reshape(-1).tolist() == [1, 2, 4]
    folded = reshaped(x, (1, B * 4, 5))
    apart = reshaped(normalised("bn", folded, (0, 2)), (B, 4, 5))
    assert owners_of(apart)[:, 0, 0].tolist() == [1, 2, 4]
    assert is_relative(apart)


def test_an_index_of_the_data_belongs_to_its_sample() -> None:
    table = constant(np.ones((7, 2)))
    found = looked_up("Gather", table, 0, samples(3, name="ids"))
    assert found.shape == (B, 3, 2)
    assert may(found.owners).reshape(-1).tolist() == [1, 2, 4]
    rows = looked_up("Gather", samples(2), 0, samples(name="ids"))
    assert set(owners_of(rows)[:, 0].tolist()) == {0b111}
    assert some(rows.owners).reshape(-1).tolist() == [1, 2, 4], "which rows is not certain"


def test_one_cell_stands_for_an_axis_where_it_can() -> None:
    many = explicit(samples(40), (1,))
    assert tidied(many).kinds == (EACH, LINE)
    few = explicit(samples(4), (1,))
    assert tidied(few).kinds == (EACH, EACH), "what is told apart is not given up for nothing"
    assert tidied(explicit(broadcast(samples(1), (B, 40)), (1,))).kinds == (EACH, SAME)


def test_too_many_cells_are_refused() -> None:
    x = reshaped(samples(kinds.MAX_CELLS, 2), (B, kinds.MAX_CELLS, 2))
    with pytest.raises(kinds.UndecidableError, match="cells"):
        explicit(x, (1,))


def test_large_weights_are_not_read() -> None:
    def load() -> bytes:
        raise AssertionError("a weight was read")

    weight = TensorRef(name="w", dtype="float32", shape=(1 << 14, 1 << 14), load=load)
    assert weight.numel * 4 > MAX_READ_BYTES
    x = samples(1 << 14)
    result = matrix_product("MatMul", x, Constant(Ledger(), reference=weight))
    assert may(result.owners).reshape(-1).tolist() == [1, 2, 4]
    scaled = product(
        "Mul", [result, Constant(Ledger(), reference=TensorRef(name="g", dtype="float32", shape=(1 << 14,), load=load))]
    )
    assert is_relative(scaled)
