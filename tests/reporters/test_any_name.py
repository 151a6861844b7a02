"""Whatever a file calls its layers: every report for machines parses, and gives the name back."""

from __future__ import annotations

import io
import json
import re
from xml.etree import ElementTree

import test_github
import test_markdown
import test_sarif
from hand_made import audit, finding, report
from hypothesis import given, settings
from hypothesis import strategies as st

from bn_audit import plugins
from bn_audit.styled import clean
from bn_audit.subject.finding import Location
from bn_audit.subject.report import Audit, Failed, Skipped
from bn_audit.subject.waiver import WaivedFinding

SPECIAL = st.text(alphabet="|`\\<>&@#:/[](){}*_~!$%,.\n\r\t\x00\x1b\u202e\ud800 -+=\"'wG1x0", min_size=1, max_size=24)
ANY = st.text(alphabet=st.characters(), min_size=1, max_size=24)
NAMES = st.one_of(SPECIAL, ANY)
REPORTERS = {reporter.name: reporter for reporter in plugins.reporters()}


def written(name: str, of: Audit) -> str:
    out = io.StringIO()
    REPORTERS[name].render(of, out, False)
    return out.getvalue()


def hostile(name: str) -> Audit:
    told = finding(message=name, remedy=name, locations=(Location(path=name),), evidence={name: name})
    return audit(
        report(
            findings=(told,),
            waived=(WaivedFinding(finding=told, reason=name),),
            baselined=(told,),
            skipped=(Skipped(code="BN102", reason=name),),
            failed=(Failed(stage="read", error=name),),
            unread=(name,),
        )
    )


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(NAMES)
def test_sarif_gives_the_name_back(name: str) -> None:
    (run,) = json.loads(written("sarif", hostile(name)))["runs"]
    for result in run["results"]:
        assert (
            test_sarif.unescaped(result["message"]["text"])
            == f"{clean(name)}. Where: {clean(name)}. Fix: {clean(name)}"
        )
        (place,) = result["locations"][0]["logicalLocations"]
        assert place["fullyQualifiedName"] == clean(name)


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(NAMES)
def test_junit_gives_the_name_back(name: str) -> None:
    root = ElementTree.fromstring(written("junit", hostile(name)))
    (error,) = root.iter("error")
    assert error.get("message") == clean(name)
    (failure,) = root.iter("failure")
    assert failure.text == f"error: {clean(name)}\nwhere: {clean(name)}\nfix: {clean(name)}"


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(NAMES)
def test_annotations_give_the_name_back(name: str) -> None:
    rows = written("github", hostile(name)).splitlines()
    commands = [command for row in rows if (command := test_github.parsed(row)) is not None]
    assert [command.name for command in commands] == ["error", "error", "notice", "notice"]
    # The runner trims its lines.
    assert commands[0].data.strip() == clean(name).strip()
    assert commands[1].data.strip() == f"{clean(name)}\nwhere: {clean(name)}\nfix: {clean(name)}".strip()


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(NAMES)
def test_markdown_shows_the_name_as_code_and_nothing_else_of_it(name: str) -> None:
    read = test_markdown.page(hostile(name))
    assert set(read.tags) <= test_markdown.OURS
    assert [len(row) for row in read.cells] == [4, 4]
    shown = {re.sub(r"\s+", " ", text.replace(test_markdown.EMPTY, "")).strip() for text in read.code}
    assert shown == {"model.pt", re.sub(r"\s+", " ", clean(name)).strip()}
    assert test_markdown.MENTIONS.findall("".join(read.prose)) == []
