"""No value of any key gets past the reader in any way but as a setting or as a usage error that names the file."""

from __future__ import annotations

from datetime import date, datetime, time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bn_audit.configuring import configured, for_source
from bn_audit.errors import UsageError
from bn_audit.options import Options
from bn_audit.settings.keys import GENERAL, PER_PATH
from bn_audit.settings.reading import TABLES, read_settings
from bn_audit.settings.table import document
from bn_audit.settings.waivers import KEYS

CODES = ("BN101", "BN204")
WORDS = ("BN101", "BN1", "", " ", "error", "deploy", "mc-dropout", "*", "[", "a:b", "../x", "x=float32:3", "2027-01-01")
NAMES = sorted({key.name for key in (*GENERAL, *PER_PATH)} | {*TABLES, *KEYS})

leaves = st.one_of(
    st.sampled_from(WORDS),
    st.text(max_size=4),
    st.booleans(),
    st.integers(-2, 2**70),
    st.floats(),
    st.sampled_from([date(2027, 1, 1), datetime(2027, 1, 1), time(1)]),
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*NAMES, *WORDS]), inner, max_size=4),
    max_leaves=8,
)
tables = st.dictionaries(st.sampled_from(NAMES), values, max_size=5)
files = st.builds(
    lambda general, targets, waivers: {**general, "target": targets, "waiver": waivers},
    tables,
    st.lists(tables, max_size=2),
    st.lists(tables, max_size=2),
)


@given(content=files | tables)
@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_a_value_is_a_setting_or_a_usage_error(
    content: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "pyproject.toml"
    file.touch()
    try:
        found = read_settings(file, content, CODES)
    except UsageError as error:
        assert str(error).startswith("pyproject.toml: ")
        return
    for_source(configured(Options(), found, ()), "model.pt")
    document(found, (), {}, date(2027, 1, 1))
