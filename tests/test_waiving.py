"""What waivers take out of a report, when they expire, and when they are not needed."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from bn_audit.subject.design import DESIGN_CODES, Design
from bn_audit.subject.finding import Confidence, Finding, Intent, Location, Severity
from bn_audit.subject.norm import Mode, ModeOrigin, NormKind, NormLayer
from bn_audit.subject.report import Report
from bn_audit.subject.waiver import Waiver
from bn_audit.waiving import applying, declared, unused, waive

TODAY = date(2026, 6, 15)


def at(*paths: str, model: str = "") -> tuple[Location, ...]:
    return tuple(Location(model=model, path=path) for path in paths)


def finding(code: str, *locations: Location) -> Finding:
    return Finding(
        code=code,
        name="a-name",
        severity=Severity.ERROR,
        confidence=Confidence.HIGH,
        message=f"{len(locations)} layers are wrong",
        remedy="repair them",
        locations=locations,
    )


def report(*findings: Finding, source: str = "m.pt", norms: tuple[NormLayer, ...] = ()) -> Report:
    return Report(source=source, format="torch-checkpoint", intent=Intent.DEPLOY, findings=findings, norms=norms)


def waiver(*codes: str, **changes: object) -> Waiver:
    return Waiver(**{"codes": codes or ("BN101",), "reason": "on purpose", "origin": "s.toml: waiver 1", **changes})


def paths(item: Finding) -> list[str]:
    return [location.path for location in item.locations]


def test_a_waived_finding_leaves_the_findings_and_is_kept_with_its_reason() -> None:
    found = finding("BN101", *at("a", "b"))
    rest, used = waive(report(found), [waiver(expires=date(2027, 1, 1))], TODAY)
    assert rest.findings == ()
    (item,) = rest.waived
    assert (item.finding, item.reason, item.expires) == (found, "on purpose", date(2027, 1, 1))
    assert used == {waiver(expires=date(2027, 1, 1))}


def test_only_the_matching_locations_are_waived() -> None:
    rest, _used = waive(report(finding("BN101", *at("gen.a", "gen.b", "critic.a"))), [waiver(layer="gen")], TODAY)
    (kept,), (item,) = rest.findings, rest.waived
    assert paths(kept) == ["critic.a"]
    assert kept.message == "3 layers are wrong; 2 of these are waived"
    assert paths(item.finding) == ["gen.a", "gen.b"]


def test_what_no_waiver_matches_is_untouched() -> None:
    audited = report(finding("BN102", *at("a")), finding("BN101", *at("b")))
    rest, used = waive(audited, [waiver(layer="a"), waiver(layer="bb"), waiver(path="other.pt")], TODAY)
    assert rest == audited
    assert used == frozenset()


@pytest.mark.parametrize("layer", ["stem", "stem.*", "stem.bn", "*.bn", "s?em", "module.stem", "ema", "ema.stem.bn"])
def test_ways_to_name_a_layer(layer: str) -> None:
    rest, _used = waive(report(finding("BN101", *at("module.stem.bn", model="ema"))), [waiver(layer=layer)], TODAY)
    assert rest.findings == ()


@pytest.mark.parametrize("layer", ["tem", "bn", "stem.b", "STEM", "other.*"])
def test_names_that_are_of_no_layer(layer: str) -> None:
    audited = report(finding("BN101", *at("stem.bn")))
    assert waive(audited, [waiver(layer=layer)], TODAY)[0] == audited


def test_nodes_and_tensors_can_be_named_where_there_is_no_layer() -> None:
    audited = report(finding("BN504", Location(node="/drop/Dropout"), Location(tensor="head.w")))
    rest, _used = waive(audited, [waiver("BN504", layer="/drop/*"), waiver("BN504", layer="head.*")], TODAY)
    assert rest.findings == ()


def test_a_finding_about_the_whole_artifact_is_waived_as_one_and_by_no_layer() -> None:
    audited = report(finding("BN203"))
    assert waive(audited, [waiver("BN203", layer="*")], TODAY)[0] == audited
    rest, _used = waive(audited, [waiver("BN203")], TODAY)
    assert (rest.findings, len(rest.waived)) == ((), 1)


def test_it_holds_through_its_last_day() -> None:
    audited = report(finding("BN101", *at("a")))
    assert waive(audited, [waiver(expires=TODAY)], TODAY)[0].findings == ()
    assert waive(audited, [waiver(expires=TODAY)], date(2026, 6, 16))[0].findings != ()


def test_an_expired_one_hides_nothing_and_says_so() -> None:
    rest, used = waive(report(finding("BN101", *at("a", "b"))), [waiver(expires=date(2026, 6, 14), layer="a")], TODAY)
    (kept,) = rest.findings
    assert paths(kept) == ["a", "b"]
    assert kept.message == ("2 layers are wrong; the waiver of 1 of these expired on 2026-06-14 (s.toml: waiver 1)")
    assert rest.waived == ()
    assert len(used) == 1, "it is needed, or the finding would be gone"


def test_one_that_holds_wins_over_one_that_has_expired() -> None:
    waivers = [waiver(expires=date(2020, 1, 1)), waiver(layer="a", reason="newer")]
    rest, _used = waive(report(finding("BN101", *at("a", "b"))), waivers, TODAY)
    (kept,), (item,) = rest.findings, rest.waived
    assert (paths(kept), item.reason) == (["b"], "newer")
    assert "the waiver of 1 of these expired on 2020-01-01" in kept.message


def test_two_waivers_of_one_finding_are_told_apart() -> None:
    rest, _used = waive(
        report(finding("BN101", *at("a", "b"))),
        [waiver(layer="a", reason="one"), waiver(layer="b", reason="two")],
        TODAY,
    )
    assert rest.findings == ()
    assert [(item.reason, paths(item.finding)) for item in rest.waived] == [("one", ["a"]), ("two", ["b"])]


def test_a_glob_over_sources_starts_in_the_folder_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "gan.pt").touch()
    item = waiver(path="models/gan*.pt", directory=str(tmp_path))
    monkeypatch.chdir(tmp_path / "models")
    assert applying([item], "gan.pt") == (item,)
    assert applying([item], str(tmp_path / "models" / "gan.pt")) == (item,)
    (tmp_path / "gan.pt").touch()
    assert applying([item], "../gan.pt") == ()


def test_declared_designs_are_those_of_waivers_that_hold_for_the_source() -> None:
    waivers = [
        waiver(intent=Design.MC_DROPOUT, path="a.pt"),
        waiver(intent=Design.BATCH_STATISTICS, expires=date(2020, 1, 1)),
        waiver(),
    ]
    assert declared(waivers, "a.pt", TODAY) == {Design.MC_DROPOUT}
    assert declared(waivers, "b.pt", TODAY) == frozenset()
    assert declared(waivers, "b.pt", date(2019, 1, 1)) == {Design.BATCH_STATISTICS}


def norm(path: str, node: str | None = None) -> NormLayer:
    return NormLayer(
        model="",
        path=path,
        node=node,
        kind=NormKind.BATCH_NORM,
        type_name="",
        mode=Mode.TRAIN,
        mode_origin=ModeOrigin.EXPORTED_ARGUMENT,
        uses_batch_statistics=True,
    )


def test_declared_batch_statistics_excuse_norm_layers_and_no_other_mixing() -> None:
    codes = DESIGN_CODES[Design.BATCH_STATISTICS]
    places = (Location(path="bn"), Location(node="bn_2"), Location(path="head", node="mean_1"), Location())
    audited = report(finding("BN401", *places), norms=(norm("bn"), norm("", "bn_2")))
    rest, _used = waive(audited, [waiver(*codes, intent=Design.BATCH_STATISTICS)], TODAY)
    (kept,), (item,) = rest.findings, rest.waived
    assert kept.locations == places[2:]
    assert item.finding.locations == places[:2]


def judged(code: str, _report: Report) -> bool:
    return code != "BN999"


def test_a_waiver_that_waives_nothing_where_it_could_is_unused() -> None:
    clean = report()
    assert unused([waiver()], frozenset(), [clean], judged, are_all=False) == (waiver(),)
    assert unused([waiver()], frozenset({waiver()}), [clean], judged, are_all=False) == ()


def test_a_waiver_is_not_unused_where_its_rule_could_not_judge() -> None:
    assert unused([waiver("BN101", "BN999")], frozenset(), [report()], judged, are_all=True) == ()


def test_a_waiver_about_none_of_the_sources_is_unused_only_where_these_are_all() -> None:
    elsewhere = waiver(path="models/lost.pt")
    assert unused([elsewhere], frozenset(), [report()], judged, are_all=False) == ()
    assert unused([elsewhere], frozenset(), [report()], judged, are_all=True) == (elsewhere,)


def test_a_norm_layer_that_is_the_whole_model_is_one_too() -> None:
    audited = report(finding("BN101", Location()), norms=(norm(""),))
    assert waive(audited, [waiver(intent=Design.BATCH_STATISTICS)], TODAY)[0].findings == ()
