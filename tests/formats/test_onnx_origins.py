"""What batch norms of ONNX graphs normalise, norms of other domains, and random operators."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx_texts import VECTORS, head, parsed

from bn_audit.subject.norm import InputOrigin, Mode


def test_weight_standardisation_is_decided_by_its_input(tmp_path: Path) -> None:
    text = f"""{head()} g (float[N,3,4,4] x) => (float[N,3,4,4] z) <float[1,3,4] w, {VECTORS[1:]} {{
        y, r1, r2 = BatchNormalization <training_mode: int = 1> (w, s, b, m, v)
        shape = Constant <value_ints: ints = [3,1,2,2]> ()
        k = Reshape (y, shape)
        z = Conv <group: int = 3> (x, k)
    }}"""
    (norm,) = parsed(text.replace("float[1,3,4] w,", "float[1,3,4] w = {1,2,3,4,5,6,7,8,9,10,11,12},"), tmp_path).norms
    assert (norm.mode, norm.uses_batch_statistics) == (Mode.TRAIN, False)
    assert norm.input_origin is InputOrigin.PARAMETERS


@pytest.mark.parametrize("target", ["[1, -1, 4, 4]", "[1, 15, 4, 4]"])
def test_instance_norm_in_disguise_is_decided_by_the_reshape(target: str, tmp_path: Path) -> None:
    batch = "5" if "15" in target else "N"
    text = f"""{head()} g (float[{batch},3,4,4] x) => (float[{batch},3,4,4] z) {VECTORS} {{
        shape = Constant <value_ints: ints = {target}> ()
        f = Reshape (x, shape)
        y, r1, r2 = BatchNormalization <training_mode: int = 1> (f, s, b, m, v)
        back = Shape (x)
        z = Reshape (y, back)
    }}"""
    (norm,) = parsed(text, tmp_path).norms
    assert norm.uses_batch_statistics is False
    assert norm.input_origin is InputOrigin.INSTANCES


def test_operator_of_another_domain_with_the_name_of_a_batch_norm_has_no_known_mode(tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["" : 18, "mmcv" : 1]>
        g (float[N,3,4,4] x) => (float[N,3,4,4] z) { z = mmcv.SyncBatchNorm (x) }"""
    (norm,) = parsed(text, tmp_path).norms
    assert (norm.mode, norm.uses_batch_statistics) == (Mode.UNKNOWN, None)


def test_training_batch_norm_of_onnx_runtime(tmp_path: Path) -> None:
    text = f"""<ir_version: 9, opset_import: ["" : 18, "com.microsoft" : 1]>
        g (float[N,3,4,4] x) => (float[N,3,4,4] z) {VECTORS} {{
            z, rm, rv, sm, si = com.microsoft.BatchNormInternal <training_mode: int = 1> (x, s, b, m, v)
        }}"""
    (norm,) = parsed(text, tmp_path).norms
    assert (norm.mode, norm.uses_batch_statistics) == (Mode.TRAIN, True)


DROPOUTS = [
    (6, "Dropout <ratio: float = 0.25> (x)", 0.25, True),
    (6, "Dropout <ratio: float = 0.25, is_test: int = 1> (x)", 0.25, False),
    (7, "Dropout <ratio: float = 0.25> (x)", 0.25, False),
    (13, "Dropout (x, r)", 0.5, False),
    (13, "Dropout (x, r, t)", 0.5, True),
    (13, "Dropout (x, zero, t)", 0.0, False),
    (13, "Dropout (x, , t)", 0.5, True),
    (13, "Dropout (x, given, t)", None, True),
    (13, "Dropout (x, r, flag)", 0.5, None),
]


@pytest.mark.parametrize(("opset", "node", "probability", "live"), DROPOUTS)
def test_dropout_of_every_operator_set(
    opset: int, node: str, probability: float | None, live: bool | None, tmp_path: Path
) -> None:
    text = f"""{head(opset)} g (float[N,3] x, float given, bool flag) => (float[N,3] z)
        <float r = {{0.5}}, float zero = {{0}}, bool t = {{1}}> {{ z = {node} }}"""
    (call,) = parsed(text, tmp_path).random_calls
    assert (call.is_dropout, call.probability, call.live) == (True, probability, live)


def test_other_random_operators_are_live(tmp_path: Path) -> None:
    text = f"{head()} g (float[N,3] x) => (float[N,3] z) {{ n = RandomNormalLike (x) z = Bernoulli (n) }}"
    calls = parsed(text, tmp_path).random_calls
    assert [(call.op, call.is_dropout, call.live) for call in calls] == [
        ("RandomNormalLike", False, True),
        ("Bernoulli", False, True),
    ]
