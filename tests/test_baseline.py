"""Baselines: what they hold, what they hide, what they report as gone, and which files they refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bn_audit.baseline import SCHEMA_ID, Baseline, accept, document, hide_known, read_baseline, resolved
from bn_audit.errors import UsageError
from bn_audit.subject.finding import Confidence, Finding, Intent, Location, Severity
from bn_audit.subject.fingerprint import fingerprint
from bn_audit.subject.report import Failed, Report, Skipped
from bn_audit.subject.waiver import WaivedFinding


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory, with two models."""
    (tmp_path / "models").mkdir()
    for name in ("a.pt", "b.pt"):
        (tmp_path / "models" / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def at(*paths: str, model: str = "") -> tuple[Location, ...]:
    return tuple(Location(model=model, path=path) for path in paths)


def finding(code: str = "BN101", *locations: Location, **changes: object) -> Finding:
    return Finding(
        **{
            "code": code,
            "name": "a-name",
            "severity": Severity.ERROR,
            "confidence": Confidence.HIGH,
            "message": f"{len(locations)} layers are wrong",
            "remedy": "repair them",
            "locations": locations,
            **changes,
        }
    )


def report(*findings: Finding, source: str = "models/a.pt", **changes: object) -> Report:
    return Report(source=source, format="torch-checkpoint", intent=Intent.DEPLOY, findings=findings, **changes)


def written(*reports: Report, file: str = "known.json") -> Baseline:
    path = Path(file)
    path.write_bytes(document(map(accept, reports), path.parent))
    return read_baseline(path)


def judged(_code: str, _report: Report) -> bool:
    return True


def test_the_file_names_every_place_and_its_fingerprint() -> None:
    written(report(finding("BN101", *at("b", "a", model="ema")), finding("BN203")))
    content = json.loads(Path("known.json").read_text(encoding="ascii"))
    assert content["schema"] == SCHEMA_ID
    assert [(item["code"], item["model"], item["place"]) for item in content["findings"]] == [
        ("BN101", "ema", "a"),
        ("BN101", "ema", "b"),
        ("BN203", "", ""),
    ]
    first = content["findings"][0]
    assert first["fingerprint"] == fingerprint("models/a.pt", "BN101", Location(model="ema", path="a"))


def test_the_file_does_not_depend_on_the_order_of_reports_findings_and_places() -> None:
    one = report(finding("BN101", *at("a", "b")), finding("BN204", *at("c")))
    other = report(finding("BN101", *at("x")), source="models/b.pt")
    turned = report(finding("BN204", *at("c")), finding("BN101", *at("b", "a")))
    assert document(map(accept, [one, other]), Path()) == document(map(accept, [other, turned]), Path())


def test_what_is_known_is_hidden_and_counted() -> None:
    known = written(report(finding("BN101", *at("a", "b"))))
    again = hide_known(report(finding("BN101", *at("b", "a"), severity=Severity.NOTE, message="said otherwise")), known)
    assert again.findings == ()
    assert len(again.baselined) == 1


def test_new_places_and_codes_stay() -> None:
    known = written(report(finding("BN101", *at("a", "b"))))
    again = hide_known(report(finding("BN101", *at("a", "b", "c")), finding("BN102", *at("a"))), known)
    kept, other = again.findings
    assert kept.locations == at("c")
    assert kept.message == "3 layers are wrong; 2 of these are in the baseline"
    assert other.code == "BN102"
    assert again.baselined[0].locations == at("a", "b")


@pytest.mark.parametrize(
    "place",
    [Location(model="ema", path="a"), Location(path="a", tensor="a.weight"), Location(path="aa"), Location()],
)
def test_another_model_tensor_or_layer_is_not_known(place: Location) -> None:
    known = written(report(finding("BN101", *at("a"))))
    audited = report(finding("BN101", place))
    assert hide_known(audited, known) == audited


def test_another_artifact_is_not_known() -> None:
    known = written(report(finding("BN101", *at("a"))))
    audited = report(finding("BN101", *at("a")), source="models/b.pt")
    assert hide_known(audited, known) == audited


def test_a_finding_that_occurs_more_often_than_known_is_new() -> None:
    twice = (Location(path="drop", node="n1"), Location(path="drop", node="n2"))
    known = written(report(finding("BN504", *twice)))
    renumbered = (Location(path="drop", node="n7"), Location(path="drop", node="n9"))
    assert hide_known(report(finding("BN504", *renumbered)), known).findings == ()
    assert hide_known(report(finding("BN504", *renumbered[:1])), known).findings == ()
    thrice = report(finding("BN504", *renumbered, Location(path="drop", node="n3")))
    assert hide_known(thrice, known) == thrice


def test_names_start_in_the_folder_of_the_baseline(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "ci").mkdir()
    written(report(finding("BN101", *at("a"))), file="ci/known.json")
    assert json.loads(Path("ci/known.json").read_text())["findings"][0]["source"] == "../models/a.pt"
    monkeypatch.chdir(folder / "models")
    known = read_baseline(Path("../ci/known.json"))
    assert hide_known(report(finding("BN101", *at("a")), source="a.pt"), known).findings == ()
    absolute = str(folder / "models" / "a.pt")
    assert hide_known(report(finding("BN101", *at("a")), source=absolute), known).findings == ()


def test_what_the_audit_does_not_know_is_never_hidden() -> None:
    audited = report(
        finding("BN111", *at("a")),
        skipped=(Skipped(code="BN101", reason="no mode"),),
        failed=(Failed(stage="BN204", error="broken"),),
    )
    taken = accept(audited)
    assert taken == audited
    entry = {"source": "models/a.pt", "code": "BN111", "model": "", "place": "a", "tensor": None, "count": 1}
    by_hand = {**entry, "fingerprint": fingerprint("models/a.pt", "BN111", Location(path="a"))}
    Path("known.json").write_text(json.dumps({"schema": SCHEMA_ID, "findings": [by_hand]}))
    assert hide_known(audited, read_baseline(Path("known.json"))) == audited


def test_entries_that_no_longer_occur_are_told() -> None:
    known = written(report(finding("BN101", *at("a", "b"))), report(finding("BN101", *at("a")), source="models/b.pt"))
    now = hide_known(report(finding("BN101", *at("b"))), known)
    (gone,) = resolved(known, [now], judged)
    assert (gone.source, gone.code, gone.place) == ("models/a.pt", "BN101", "a")


def test_nothing_is_told_of_what_was_not_judged_this_time() -> None:
    known = written(report(finding("BN101", *at("a"))))
    assert resolved(known, [report(source="models/b.pt")], judged) == ()
    assert resolved(known, [report()], lambda _code, _report: False) == ()


def test_a_waived_finding_still_occurs() -> None:
    found = finding("BN101", *at("a"))
    known = written(report(found))
    now = replace(report(), waived=(WaivedFinding(finding=found, reason="meant"),))
    assert resolved(known, [now], judged) == ()


def test_a_hostile_name_survives_the_file() -> None:
    place = Location(model="\x1b[2J", path='"\\\n\udc80', tensor="\u202e")
    known = written(report(finding("BN101", place)))
    assert hide_known(report(finding("BN101", place)), known).findings == ()


def entry(**changes: object) -> dict[str, object]:
    values = {"source": "m.pt", "code": "BN101", "model": "", "place": "a", "tensor": None, "count": 1}
    return {"fingerprint": fingerprint("m.pt", "BN101", Location(path="a")), **values, **changes}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps({"schema": "bn-audit.report.v1", "findings": []}).encode(),
        json.dumps({"schema": SCHEMA_ID}).encode(),
        json.dumps({"schema": SCHEMA_ID, "findings": 1}).encode(),
        json.dumps({"schema": SCHEMA_ID, "findings": ["x"]}).encode(),
        json.dumps({"schema": SCHEMA_ID, "findings": [entry(place=1)]}).encode(),
        json.dumps({"schema": SCHEMA_ID, "findings": [entry(count=0)]}).encode(),
        json.dumps({"schema": SCHEMA_ID, "findings": [entry(count=True)]}).encode(),
        json.dumps({"schema": SCHEMA_ID, "findings": [entry(tensor=1)]}).encode(),
        json.dumps({"schema": SCHEMA_ID, "findings": [entry(place="moved by hand")]}).encode(),
    ],
)
def test_a_file_that_is_no_baseline_is_refused(content: bytes) -> None:
    Path("known.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"baseline known\.json: is no baseline of this version .*--write-baseline"):
        read_baseline(Path("known.json"))


def test_the_entry_that_the_refused_ones_are_made_from_is_accepted() -> None:
    Path("known.json").write_text(json.dumps({"schema": SCHEMA_ID, "findings": [entry()]}))
    assert [item.place for item in read_baseline(Path("known.json")).entries.values()] == ["a"]


def test_a_missing_file_and_a_folder_are_refused() -> None:
    with pytest.raises(UsageError, match=r"no\.json: cannot be read .*write it with --write-baseline"):
        read_baseline(Path("no.json"))
    with pytest.raises(UsageError, match=r"models: cannot be read .*name a baseline"):
        read_baseline(Path("models"))


PLACES = st.builds(
    Location,
    model=st.sampled_from(["", "ema"]),
    path=st.sampled_from(["", "a", "a.b"]),
    tensor=st.sampled_from([None, "w"]),
    node=st.sampled_from([None, "n1", "n2"]),
)
FINDINGS = st.lists(
    st.builds(lambda code, at: finding(code, *at), st.sampled_from(["BN101", "BN504", "BN111"]), st.lists(PLACES)),
    max_size=5,
)


@given(findings=FINDINGS, order=st.randoms(use_true_random=False))
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_what_was_written_is_hidden_in_any_order_and_nothing_else_is(findings: list[Finding], order: Random) -> None:
    known = written(report(*findings))
    turned = [replace(item, locations=tuple(order.sample(item.locations, len(item.locations)))) for item in findings]
    order.shuffle(turned)
    audited = report(*turned)
    now = hide_known(audited, known)
    assert {item.code for item in now.findings} <= {"BN111"}
    assert sum(len(item.places) for item in (*now.findings, *now.baselined)) == sum(len(item.places) for item in turned)
    assert resolved(known, [now], judged) == ()
    assert len(resolved(known, [report()], judged)) == len(known.entries)
