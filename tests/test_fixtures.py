"""Every artifact in ``fixtures/`` is reported as the file beside it says."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

import bn_audit
from bn_audit import audit
from bn_audit.reporters import json_v1

FIXTURES = Path(bn_audit.__file__).parents[1] / "fixtures"
SUFFIX = ".expected.json"
ARTIFACTS = sorted(path.name.removesuffix(SUFFIX) for path in FIXTURES.glob(f"*{SUFFIX}"))
LARGEST = 50_000


def reported(name: str) -> dict:
    out = io.StringIO()
    json_v1.render(audit.run([str(FIXTURES / name)], audit.Options()), out, False)
    return json.loads(out.getvalue())


def test_there_are_artifacts_and_each_has_its_expectation() -> None:
    files = {path.name for path in FIXTURES.iterdir() if path.is_file()}
    files -= {"make_fixtures.py", "README.md", *(name + SUFFIX for name in ARTIFACTS)}
    assert files == set(ARTIFACTS) != set()


@pytest.mark.parametrize("name", ARTIFACTS)
def test_artifacts_are_small(name: str) -> None:
    assert (FIXTURES / name).stat().st_size < LARGEST


@pytest.mark.parametrize("name", ARTIFACTS)
def test_the_report_says_what_is_expected(name: str) -> None:
    expected = json.loads((FIXTURES / f"{name}{SUFFIX}").read_text(encoding="utf-8"))
    document = reported(name)
    (report,) = document["reports"]
    assert report["failed"] == []
    assert document["summary"]["exit_code"] == expected["exit_code"]
    assert report["format"] == expected["format"]
    assert [model["form"] for model in report["models"]] == [expected["form"]]
    assert sorted(finding["code"] for finding in report["findings"]) == sorted(expected["findings"])
    norms = {norm["path"]: norm for norm in report["norms"]}
    assert sorted(norms) == sorted(norm["path"] for norm in expected["norms"])
    for facts in expected["norms"]:
        assert facts == {key: norms[facts["path"]][key] for key in facts}


@pytest.mark.parametrize("name", ARTIFACTS)
def test_an_artifact_names_no_folder_of_the_machine_that_made_it(name: str) -> None:
    content = (FIXTURES / name).read_bytes()
    assert b"/site-packages/" not in content
    assert b"/tmp/" not in content
    assert b"/home/" not in content
