"""Operators of onnxruntime's own domain: sizes of outputs, and who owns their elements, against the runtime."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_graphs import converted, session_of

from bn_audit.flow.cells import Cells, may, per_sample, several, some
from bn_audit.flow.constants import Constant, Ledger
from bn_audit.flow.following import Run
from bn_audit.flow.onnx_operators.table import ONNX
from bn_audit.flow.values import Lost, Value

B, S, H, HEADS = 3, 5, 16, 4
RANDOM = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def codes(*shape: int, high: int = 255, dtype: type = np.uint8) -> np.ndarray:
    return RANDOM.integers(0, high, shape).astype(dtype)


ONE, ZERO = np.array(0.1, np.float32), np.array(3, np.uint8)


@dataclass(frozen=True)
class Case:
    """One call.

    Attributes:
        inputs: None for an omitted one; those that begin with as many rows as samples and are `owned` hold samples.
        owned: Indices of the inputs that hold a sample in each row.
        outputs: Names of the outputs, empty for one that is left out.
    """

    op: str
    inputs: tuple[np.ndarray | None, ...]
    owned: tuple[int, ...] = (0,)
    outputs: int = 1
    mixes: bool = False
    attributes: dict[str, object] = field(default_factory=dict)


def attention_mask() -> np.ndarray:
    return np.tril(np.ones((B, S), np.int32), 2)


CASES = {
    "BiasGelu": Case("BiasGelu", (floats(B, S, H), floats(H))),
    "FastGelu": Case("FastGelu", (floats(B, S, H), floats(H))),
    "QuickGelu": Case("QuickGelu", (floats(B, S, H),)),
    "Gelu": Case("Gelu", (floats(B, S, H),)),
    "SkipLayerNormalization": Case(
        "SkipLayerNormalization", (floats(B, S, H), floats(B, S, H), floats(H), floats(H), floats(H)), owned=(0, 1)
    ),
    "SkipSimplifiedLayerNormalization": Case(
        "SkipSimplifiedLayerNormalization", (floats(B, S, H), floats(B, S, H), floats(H)), owned=(0, 1)
    ),
    "EmbedLayerNormalization": Case(
        "EmbedLayerNormalization",
        (
            codes(B, S, high=20, dtype=np.int32),
            codes(B, S, high=2, dtype=np.int32),
            floats(20, H),
            floats(9, H),
            floats(2, H),
            floats(H),
            floats(H),
            attention_mask(),
        ),
        owned=(0, 1, 7),
        outputs=2,
    ),
    "FusedMatMul": Case("FusedMatMul", (floats(B, H, S), floats(H, 7)), attributes={"transA": 1, "alpha": 0.5}),
    "FusedMatMul of samples": Case(
        "FusedMatMul", (floats(B, H), floats(B, H)), owned=(0, 1), mixes=True, attributes={"transB": 1}
    ),
    "MultiHeadAttention": Case(
        "MultiHeadAttention",
        (floats(B, S, H), floats(B, 7, H), floats(B, 7, H), floats(3 * H)),
        owned=(0, 1, 2),
        attributes={"num_heads": HEADS},
    ),
    "MultiHeadAttention with a padding mask": Case(
        "MultiHeadAttention",
        (floats(B, S, H), floats(B, S, H), floats(B, S, H), None, attention_mask()),
        owned=(0, 1, 2, 4),
        attributes={"num_heads": HEADS},
    ),
    "MultiHeadAttention with a cache": Case(
        "MultiHeadAttention",
        (
            floats(B, 1, H),
            floats(B, 1, H),
            floats(B, 1, H),
            None,
            None,
            None,
            floats(B, HEADS, 4, 4),
            floats(B, HEADS, 4, 4),
        ),
        owned=(0, 1, 2, 6, 7),
        outputs=3,
        attributes={"num_heads": HEADS},
    ),
    "Attention": Case("Attention", (floats(B, S, H), floats(H, 3 * H), floats(3 * H)), attributes={"num_heads": HEADS}),
    "Attention, causal, with a mask": Case(
        "Attention",
        (floats(B, S, H), floats(H, 3 * H), floats(3 * H), attention_mask()),
        owned=(0, 3),
        attributes={"num_heads": HEADS, "unidirectional": 1},
    ),
    "GroupQueryAttention": Case(
        "GroupQueryAttention",
        (
            floats(B, S, 2 * H),
            floats(B, S, H),
            floats(B, S, H),
            floats(B, 2, 0, 8),
            floats(B, 2, 0, 8),
            np.full((B,), S - 1, np.int32),
            np.array(S, np.int32),
        ),
        owned=(0, 1, 2),
        outputs=3,
        attributes={"num_heads": HEADS, "kv_num_heads": 2},
    ),
    "RotaryEmbedding": Case(
        "RotaryEmbedding",
        (floats(B, S, H), codes(B, S, high=9, dtype=np.int64), floats(9, H // 2), floats(9, H // 2)),
        owned=(0, 1),
    ),
    "DynamicQuantizeMatMul": Case(
        "DynamicQuantizeMatMul", (floats(B, H), codes(H, 4), np.array([0.02], np.float32), None, floats(4)), mixes=True
    ),
    "MatMulIntegerToFloat": Case("MatMulIntegerToFloat", (codes(B, H), codes(H, 4), ONE, ONE, ZERO, ZERO, floats(4))),
    "QLinearAdd": Case("QLinearAdd", (codes(B, H), ONE, ZERO, codes(B, H), ONE, ZERO, ONE, ZERO), owned=(0, 3)),
    "QLinearMul": Case("QLinearMul", (codes(B, H), ONE, ZERO, codes(H), ONE, ZERO, ONE, ZERO)),
    "QLinearSigmoid": Case("QLinearSigmoid", (codes(B, H), ONE, ZERO, ONE, ZERO)),
    "QLinearLeakyRelu": Case("QLinearLeakyRelu", (codes(B, H), ONE, ZERO, ONE, ZERO)),
    "QLinearGlobalAveragePool": Case("QLinearGlobalAveragePool", (codes(B, 4, 6, 6), ONE, ZERO, ONE, ZERO)),
    "QLinearAveragePool": Case(
        "QLinearAveragePool", (codes(B, 4, 6, 6), ONE, ZERO, ONE, ZERO), attributes={"kernel_shape": [2, 2]}
    ),
    "QLinearConcat": Case(
        "QLinearConcat",
        (ONE, ZERO, codes(B, 4), ONE, ZERO, codes(B, 3), ONE, ZERO),
        owned=(2, 5),
        attributes={"axis": 1},
    ),
    "QLinearConcat of samples": Case(
        "QLinearConcat",
        (ONE, ZERO, codes(B, 4), ONE, ZERO, codes(B, 4), ONE, ZERO),
        owned=(2, 5),
        attributes={"axis": 0},
    ),
    "QLinearSoftmax": Case("QLinearSoftmax", (codes(B, 9), ONE, ZERO, ONE, ZERO), attributes={"axis": -1, "opset": 13}),
    "QGemm": Case(
        "QGemm",
        (codes(B, H), ONE, ZERO, codes(4, H), ONE, ZERO, codes(4, dtype=np.int32), ONE, ZERO),
        attributes={"transB": 1},
    ),
    "MatMulNBits": Case(
        "MatMulNBits",
        (floats(B, 32), codes(4, 1, 16), floats(4)),
        attributes={"K": 32, "N": 4, "bits": 4, "block_size": 32},
    ),
}


def model_of(case: Case) -> onnx.ModelProto:
    names = [f"i{index}" if array is not None else "" for index, array in enumerate(case.inputs)]
    outputs = [f"o{index}" for index in range(case.outputs)]
    node = helper.make_node(case.op, names, outputs, domain="com.microsoft", **case.attributes)
    given = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in zip(names, case.inputs, strict=True)
        if array is not None
    ]
    graph = helper.make_graph([node], "g", given, [helper.make_empty_tensor_value_info(name) for name in outputs])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def follow(case: Case, model: onnx.ModelProto) -> list[Value]:
    ledger = Ledger()
    run = Run(dialect=ONNX, graph=converted(model), ledger=ledger, batch_size=B, deadline=time.monotonic() + 30)
    feeds: dict[str, Value] = {}
    for index, array in enumerate(case.inputs):
        if array is not None:
            own = index in case.owned
            feeds[f"i{index}"] = (
                per_sample(array.shape, 0, f"i{index}", forgiving=False) if own else Constant(ledger, values=array)
            )
    with np.errstate(all="ignore"):
        run.follow(feeds)
    return list(run.outputs.values())


@pytest.mark.parametrize("name", CASES)
def test_an_element_changes_with_its_owners_only(name: str) -> None:
    case = CASES[name]
    model = model_of(case)
    session = session_of(model, [])
    before = session.run([array for array in case.inputs if array is not None])
    values = follow(case, model)
    for value in values:
        assert not isinstance(value, Lost), value
    for sample in range(B):
        changed_inputs = [_replaced(array, sample) if i in case.owned else array for i, array in enumerate(case.inputs)]
        after = session.run([array for array in changed_inputs if array is not None])
        for value, old, new in zip(values, before, after, strict=True):
            assert isinstance(value, Cells)
            assert value.shape == old.shape
            reach = np.broadcast_to((may(value.owners) >> np.uint64(sample)) & np.uint64(1), old.shape).astype(bool)
            assert not ((old != new) & ~reach).any()
    assert bool(several(some(values[0].owners)).any()) == case.mixes


def _replaced(array: np.ndarray | None, sample: int) -> np.ndarray | None:
    if array is None or array.shape[0] != B:
        return array
    result = array.copy()
    generator = np.random.default_rng(sample)
    if array.dtype.kind == "f":
        result[sample] = generator.standard_normal(array[sample].shape) * 3
    else:
        result[sample] = generator.permutation(array[sample].reshape(-1)).reshape(array[sample].shape)
    return result
