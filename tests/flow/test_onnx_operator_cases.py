"""Every ONNX operator on the cases of ONNX's own backend tests: sizes of outputs, and who owns their elements."""

from __future__ import annotations

import functools
import time
import warnings
from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from onnx_graphs import DTYPES, converted, session_of

from bn_audit.flow.cells import Cells, every, may, per_sample
from bn_audit.flow.constants import Constant, Ledger
from bn_audit.flow.feeding import shared
from bn_audit.flow.following import Run
from bn_audit.flow.onnx_operators.table import ONNX
from bn_audit.flow.values import Lost, Value

DATA_DECIDES = {"NonZero", "NonMaxSuppression", "Unique", "Range", "ConstantOfShape", "Compress", "Reshape"}
"""Operators whose sizes the data decides, when an input that is shared by all samples is not a constant."""
SAID = {"the data decides how many turns it takes", "Scan of operator set 8 is not followed"}
NOT_FOLLOWED = {"ImageDecoder", "MelWeightMatrix", "StringNormalizer", "StringSplit", "TfIdfVectorizer"}


@functools.cache
def cases() -> Mapping[str, list[object]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        found: dict[str, list[object]] = defaultdict(list)
        for case in collect_testcases(None):
            if case.model is None or not case.data_sets:
                continue
            nodes = case.model.graph.node
            inputs, _ = case.data_sets[0]
            plain = all(isinstance(array, np.ndarray) and array.dtype.kind in "fiub" for array in inputs)
            known = all(value.type.tensor_type.elem_type in DTYPES for value in case.model.graph.input)
            if plain and known and inputs and len(nodes) == 1 and nodes[0].domain == "":
                found[nodes[0].op_type].append(case)
    return found


def follow(model: onnx.ModelProto, inputs: list[np.ndarray], *, owned: bool) -> dict[str, Value]:
    """Follow a model whose first input holds a sample in each row, or is shared; the others are constants."""
    ledger = Ledger()
    run = Run(
        dialect=ONNX,
        graph=converted(model),
        ledger=ledger,
        batch_size=inputs[0].shape[0] if inputs[0].ndim else 1,
        deadline=time.monotonic() + 60,
    )
    feeds: dict[str, Value] = {}
    for index, (value, array) in enumerate(zip(model.graph.input, inputs, strict=False)):
        if index or not array.ndim:
            feeds[value.name] = Constant(ledger, values=array)
        elif owned:
            feeds[value.name] = per_sample(array.shape, 0, value.name, forgiving=False)
        else:
            feeds[value.name] = shared(array.shape, value.name)
    with np.errstate(all="ignore"):
        run.follow(feeds)
    return run.outputs


@pytest.mark.parametrize("operator", sorted(cases()))
def test_sizes(operator: str) -> None:
    for case in cases()[operator]:
        inputs, expected = case.data_sets[0]
        for value, array in zip(follow(case.model, inputs, owned=False).values(), expected, strict=False):
            if isinstance(value, Lost):
                assert not value.conflict or operator == "Reshape", (case.name, value.why)
                assert operator in DATA_DECIDES | NOT_FOLLOWED or value.why in SAID, (case.name, value.why)
            elif isinstance(value, Cells | Constant) and isinstance(array, np.ndarray):
                assert value.shape == array.shape, case.name


@pytest.mark.parametrize("operator", sorted(cases()))
def test_an_element_changes_with_its_owners_only(operator: str) -> None:
    for case in cases()[operator]:
        inputs, _ = case.data_sets[0]
        if not inputs[0].ndim or not 2 <= inputs[0].shape[0] <= 12 or inputs[0].dtype.kind != "f":
            continue
        try:
            session = session_of(case.model, [])
            before = session.run(inputs)
        except Exception:
            continue  # onnxruntime lacks a kernel or refuses the case
        outputs = list(follow(case.model, inputs, owned=True).values())
        for sample in range(inputs[0].shape[0]):
            after = session.run([_replaced(inputs[0], sample), *inputs[1:]])
            for value, old, new in zip(outputs, before, after, strict=False):
                if old.shape == new.shape and isinstance(value, Cells | Constant):
                    changed = ~((old == new) | ((old != old) & (new != new)))
                    assert not (changed & ~_may_depend(value, old.shape, sample)).any(), case.name


def _replaced(array: np.ndarray, row: int) -> np.ndarray:
    generator = np.random.default_rng(row)
    draw = generator.random if (array >= 0).all() else generator.standard_normal
    result = array.copy()
    result[row] = np.asarray(draw(array[row].shape)).astype(array.dtype)
    return result


def _may_depend(value: Cells | Constant, shape: tuple[int, ...], sample: int) -> np.ndarray:
    if isinstance(value, Constant):
        return np.zeros(shape, bool)
    assert value.shape == shape
    assert not (every(value.owners) & ~may(value.owners)).any()
    return np.broadcast_to((may(value.owners) >> np.uint64(sample)) & np.uint64(1), shape).astype(bool)


def test_most_operators_are_followed() -> None:
    names = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    followed = {name for domain, name in (*ONNX.handlers, *ONNX.evaluators) if domain == ""}
    assert names - followed <= NOT_FOLLOWED | {"RegexFullMatch"}
    assert len(followed & names) >= 150
