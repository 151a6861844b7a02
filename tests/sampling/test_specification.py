"""``NAME=DTYPE:SHAPE``: what is taken, and what the message says about everything else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bn_audit.errors import UsageError
from bn_audit.sampling.dtypes import NAMES
from bn_audit.sampling.specification import AskedInput, parse_input, parse_inputs


@pytest.mark.parametrize(
    ("text", "name", "dtype", "shape"),
    [
        ("x=float32:3x224x224", "x", "float32", (3, 224, 224)),
        ("ids=int64:", "ids", "int64", ()),
        ("float32:3", "", "float32", (3,)),
        ("=bool:1", "", "bool", (1,)),
        ("input:0=bfloat16:1x2", "input:0", "bfloat16", (1, 2)),
        ("a=b=float16:7", "a=b", "float16", (7,)),
        ("x=uint8:3,32,32", "x", "uint8", (3, 32, 32)),
        ("x=float8_e4m3fn:4X4", "x", "float8_e4m3fn", (4, 4)),
        (" x = complex64 : 2x3 ", "x", "complex64", (2, 3)),
    ],
)
def test_what_is_taken(text, name, dtype, shape):
    assert parse_input(text) == AskedInput(name=name, dtype=dtype, shape=shape)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("x=f32:3", "did you mean float32"),
        ("x=fp16:3", "did you mean float16"),
        ("x=bf16:3", "did you mean bfloat16"),
        ("x=float:3", "did you mean float32"),
        ("x=double:3", "did you mean float64"),
        ("x=long:3", "did you mean int64"),
        ("x=u8:3", "did you mean uint8"),
        ("x=torch.float16:3", "did you mean float16"),
        ("x=Float32:3", "did you mean float32"),
        ("x=flaot32:3", "did you mean float32"),
        ("x=string:3", "use one of float32"),
        ("x=:3", "use one of float32"),
        ("x=float32", "lacks the ':'"),
        ("", "lacks the ':'"),
        ("x=float32:3x-1", "is no shape"),
        ("x=float32:Nx3", "is no shape"),
        ("x=float32:3x", "is no shape"),
        ("x=float32:[3,4]", "is no shape"),
        ("x=float32:3.5", "is no shape"),
        ("x=float32:0x3", "size of 0"),
        ("x=float32:99999x99999", "more than the"),
        ("x=float32:" + "9" * 250, "is no shape"),
    ],
)
def test_what_is_refused_names_the_way_out(text, hint):
    with pytest.raises(UsageError) as caught:
        parse_input(text)
    assert hint in str(caught.value)
    assert text[:20] in str(caught.value)


def test_each_input_is_described_once():
    with pytest.raises(UsageError, match="'x' occurs 2 times"):
        parse_inputs(("x=float32:3", "y=float32:3", "x=float32:4"))
    with pytest.raises(UsageError, match="without a name occurs 2 times"):
        parse_inputs(("float32:3", "float32:4"))


@given(st.text(max_size=40))
def test_any_text_is_an_input_or_a_usage_error(text):
    try:
        asked = parse_input(text)
    except UsageError:
        return
    assert asked.dtype in NAMES
    assert all(size > 0 for size in asked.shape)
