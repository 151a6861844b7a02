"""The size of an effect, as findings and reports tell it alike."""

from __future__ import annotations

import math

import pytest

from bn_audit.subject.effect import share_text


@pytest.mark.parametrize(
    ("effect", "told"),
    [
        (0.0, "0"),
        (1.3e-6, "1.3e-06"),
        (9.9e-4, "0.00099"),
        (1e-3, "0.1%"),
        (0.1316, "13.2%"),
        (9.99, "999%"),
        (10.0, "10 times the size"),
        (3e9, "3e+09 times the size"),
        (math.inf, "inf"),
        (math.nan, "nan"),
    ],
)
def test_an_effect_is_a_percentage_where_that_reads_well(effect: float, told: str) -> None:
    assert share_text(effect) == told
