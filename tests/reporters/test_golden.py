"""What the reporters write for audits made by hand; ``UPDATE_GOLDEN=1 pytest tests/reporters`` writes it anew."""

import io
import os
from pathlib import Path

import hand_made
import pytest

from bn_audit import plugins
from bn_audit.reporters._web.chart_style import CHART_STYLE
from bn_audit.reporters._web.script import SCRIPT
from bn_audit.reporters._web.style import STYLE
from bn_audit.version import VERSION

GOLDEN = Path(__file__).parent / "golden"
REPORTERS = {reporter.name: reporter for reporter in plugins.reporters()}

SHARED = {"page.css": STYLE, "charts.css": CHART_STYLE, "charts.js": SCRIPT}
"""What every page repeats: it stands once among the reviewed files, and by its name in the pages."""


def without_shared(page: str) -> str:
    for name, text in SHARED.items():
        page = page.replace(text, f"[{name}]\n")
    return page


def assert_reviewed(path: Path, output: str) -> None:
    """Compare with the reviewed file, or write it where that is asked for."""
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(output, encoding="utf-8")
    assert output == path.read_text(encoding="utf-8")


def rendered(name: str, case: str, colour: bool = False) -> str:
    out = io.StringIO()
    REPORTERS[name].render(hand_made.ALL[case], out, colour)
    written = out.getvalue()
    for field in ("version", "semanticVersion"):
        written = written.replace(f'"{field}": "{VERSION}"', f'"{field}": "VERSION"')
    return without_shared(written.replace(f"bn-audit {VERSION}", "bn-audit VERSION"))


@pytest.mark.parametrize("case", hand_made.ALL)
@pytest.mark.parametrize("name", REPORTERS)
def test_output_is_as_reviewed(name, case, monkeypatch):
    monkeypatch.delenv("GITHUB_WORKSPACE", raising=False)
    path = GOLDEN / f"{case}{next(iter(REPORTERS[name].suffixes), f'.{name}')}"
    assert_reviewed(path, rendered(name, case))


@pytest.mark.parametrize("name", SHARED)
def test_what_pages_share_is_as_reviewed(name):
    assert_reviewed(GOLDEN / name, SHARED[name])
