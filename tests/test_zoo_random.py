"""Random module trees, pickled and live: every layer is what torch says, whatever the nesting and sharing."""

from __future__ import annotations

from pathlib import Path

import pytest
from zoo import chance
from zoo.comparison import audited, true
from zoo.forms import MODULE_FORMS
from zoo.truth import layers

from bn_audit.audit import check


@pytest.mark.parametrize("seed", range(120))
def test_random_tree_is_read_as_torch_sees_it(seed: int, tmp_path: Path) -> None:
    model = chance.model(seed)
    form = MODULE_FORMS[seed % len(MODULE_FORMS)]
    form.write(model, tmp_path / "model.pt")
    expected = true(layers(model))
    assert audited(check(tmp_path / "model.pt").norms) == expected
    assert audited(check(model).norms) == expected
