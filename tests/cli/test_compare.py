"""``bn-audit compare`` and ``check --against``: what is found, what is said, and the exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import torch
from compared import Detector, write_all

from bn_audit.reporters.json_v1 import SCHEMA_PATH

LAYERS = ["backbone.1", "backbone.4", "head.2"]


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("compared")
    write_all(directory)
    return directory


@pytest.fixture
def pairs(written: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(written)
    return written


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["before.pt", "module.pt"], 0),
        (["before.pt", "later.pt"], 0),
        (["before.pt", "later.pt", "--fail-on", "warning"], 1),
        (["before.pt", "wider.pt"], 1),
        (["before.pt", "wider.pt", "--exit-zero"], 0),
        (["before.pt", "wider.pt", "--ignore", "BN2"], 0),
        (["module.pt", "stale.onnx"], 1),
        (["module.pt", "stale.onnx", "--select", "BN2"], 0),
        (["before.pt", "scripted.pt", "--values", "all"], 0),
        (["module.pt", "scripted.pt", "--values", "all", "--strict"], 0),
        (["module.pt", "scripted.pt", "--strict"], 0),
        (["module.pt", "before.pt", "--strict"], 3),
        (["before.pt", "tuned_no.pt", "--frozen", "backbone"], 1),
        (["before.pt", "tuned_well.pt", "--frozen", "backbone"], 0),
        (["before.pt", "tuned_well.pt", "--frozen", "bakcbone"], 1),
        (["before.pt", "missing.pt"], 3),
        (["missing.pt", "before.pt"], 3),
        (["before.pt", "broken.pt"], 3),
        (["broken.pt", "before.pt"], 3),
        (["before.pt", "no_model.pt"], 3),
        (["no_model.pt", "before.pt"], 3),
        (["before.pt", "unrelated.pt"], 3),
        (["before.pt", "unrelated.pt", "--exit-zero"], 3),
        (["before.pt"], 2),
        ([], 2),
        (["before.pt", "later.pt", "wider.pt"], 2),
        (["before.pt", "later.pt", "--values", "some"], 2),
        (["before.pt", "later.pt", "--map", "backbone"], 2),
        (["before.pt", "later.pt", "--map", "(=x"], 2),
        (["before.pt", "later.pt", "--map", "=x"], 2),
        (["before.pt", "later.pt", "--frozen", ""], 2),
        (["before.pt", "later.pt", "--select", "XX"], 2),
        (["before.pt", "later.pt", "--intent", "fun"], 2),
        (["before.pt", "later.pt", "-o", "drift.pdf"], 2),
        (["before.pt", "later.pt", "--jobs", "2"], 2),
        (["before.pt", "."], 2),
        ([".", "before.pt"], 2),
    ],
)
def test_exit_code(run, pairs, arguments, code):
    outcome = run("compare", *arguments)
    assert outcome.code == code, outcome
    assert "Traceback" not in outcome.out + outcome.err
    assert bool(outcome.err) == (code == 2)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["missing.pt", "before.pt"], "missing.pt: cannot be opened"),
        (["before.pt", "missing.pt"], "missing.pt: cannot be opened"),
        (["before.pt", "unrelated.pt"], "unrelated.pt: has no tensor or layer in common with before.pt"),
        (["before.pt", "no_model.pt"], "no_model.pt: no model found"),
        (["no_model.pt", "before.pt"], "no_model.pt: no model found"),
    ],
)
def test_what_cannot_be_compared_is_named_and_nothing_matches(run, pairs, arguments, expected):
    out = run("compare", *arguments).out
    assert expected in " ".join(out.split())
    assert "verdict: NOT AUDITED" in out
    assert "match" not in out


def found(run, *arguments) -> dict:
    outcome = run("compare", *arguments, "--format", "json")
    document = json.loads(outcome.out)
    jsonschema.Draft202012Validator(json.loads(SCHEMA_PATH.read_text())).validate(document)
    assert document["summary"]["exit_code"] == outcome.code
    (report,) = document["reports"]
    return report


def codes(report: dict) -> dict[str, set[str]]:
    layers: dict[str, set[str]] = {}
    for finding in report["findings"]:
        layers.setdefault(finding["code"], set()).update(place["path"] for place in finding["locations"])
    return layers


def test_the_report_is_about_the_target_and_names_the_reference(run, pairs):
    report = found(run, "before.pt", "later.pt")
    assert (report["source"], report["reference"]) == ("later.pt", "before.pt")
    assert report["format"] == report["compare"]["reference_format"] == "torch-checkpoint"
    assert report["compare"]["reference_size_bytes"] == (pairs / "before.pt").stat().st_size
    assert 0 < report["compare"]["reference_bytes_read"] <= report["compare"]["reference_size_bytes"]


def test_the_drift_table_is_that_of_the_tensors(run, pairs):
    before, later = torch.load(pairs / "before.pt"), torch.load(pairs / "later.pt")
    drift = found(run, "before.pt", "later.pt")["compare"]["drift"]
    assert sorted(entry["reference"] for entry in drift) == LAYERS
    assert [entry["effect"] for entry in drift] == sorted((entry["effect"] for entry in drift), reverse=True)
    for entry in drift:
        path = entry["reference"]
        mean, var = (before[f"{path}.running_{what}"].double() for what in ("mean", "var"))
        shift = (later[f"{path}.running_mean"].double() - mean).abs() / (var + 1e-5).sqrt()
        ratio = (later[f"{path}.running_var"].double() / var).log().abs()
        assert entry["mean"]["size"] == pytest.approx(float(shift.max()), rel=1e-3)
        assert entry["mean"]["channel"] == int(shift.argmax())
        assert entry["variance"]["size"] == pytest.approx(float(ratio.max()), rel=1e-3)
        assert entry["variance"]["channel"] == int(ratio.argmax())
        assert (entry["num_batches_tracked"]["reference"], entry["num_batches_tracked"]["target"]) == (4, 8)


def test_missing_and_unexpected_names_are_those_of_load_state_dict(run, pairs):
    state = torch.load(pairs / "before.pt")
    del state["head.1.weight"], state["backbone.4.running_var"]
    state["extra.weight"] = torch.zeros(2)
    torch.save(state, pairs / "edited.pt")
    (names,) = found(run, "before.pt", "edited.pt")["compare"]["names"]
    told = Detector().load_state_dict(state, strict=False)
    assert sorted(names["missing"]) == sorted(told.missing_keys)
    assert sorted(names["unexpected"]) == sorted(told.unexpected_keys)


def test_a_prefix_is_stripped_and_said(run, pairs):
    report = found(run, "before.pt", "wrapped.pt")
    (names,) = report["compare"]["names"]
    assert (names["target_prefix"], names["missing"], names["unexpected"]) == ("module.", [], [])
    assert [(finding["code"], finding["severity"]) for finding in report["findings"]] == [("BN203", "note")]
    assert "prefix 'module.' of the target stripped" in " ".join(run("compare", "before.pt", "wrapped.pt").out.split())


def test_a_mapping_aligns_what_no_prefix_does(run, pairs):
    assert "BN221" in codes(found(run, "before.pt", "renamed.pt"))
    report = found(run, "before.pt", "renamed.pt", "--map", "^backbone=student.trunk", "--map", "^head=student.head")
    (names,) = report["compare"]["names"]
    assert (names["missing"], names["unexpected"]) == ([], [])
    assert all(match["renamed"] for match in names["matched"])
    assert report["findings"] == []


def test_parameters_alone_lack_their_statistics(run, pairs):
    layers = codes(found(run, "before.pt", "parameters.pt"))
    assert layers["BN201"] == set(LAYERS)
    assert layers["BN221"] == set(LAYERS)


def test_missing_counters_alone_are_a_note(run, pairs):
    report = found(run, "before.pt", "uncounted.pt")
    assert [(finding["code"], finding["severity"]) for finding in report["findings"]] == [("BN202", "note")]


def test_swapped_statistics_are_named(run, pairs):
    assert codes(found(run, "before.pt", "swapped.pt"))["BN215"] == {"backbone.4"}


def test_statistics_in_half_precision_are_named(run, pairs):
    report = found(run, "before.pt", "half.pt")
    assert codes(report)["BN223"] == set(LAYERS)
    assert [finding["severity"] for finding in report["findings"] if finding["code"] == "BN223"] == ["warning"]


@pytest.mark.parametrize("graph", ["folded.onnx", "unfolded.onnx", "scripted.pt"])
@pytest.mark.parametrize("reference", ["module.pt", "before.pt", "before.safetensors", "shards"])
def test_an_export_of_the_same_weights_has_no_finding(run, pairs, reference, graph):
    report = found(run, reference, graph)
    assert report["findings"] == []
    assert len(report["compare"]["layers"]) == 3
    assert {pair["paired_by"] for pair in report["compare"]["layers"]} <= {"path", "contents", "fold"}


def test_a_fold_with_other_statistics_names_layer_and_channel(run, pairs):
    report = found(run, "module.pt", "stale.onnx")
    (finding,) = report["findings"]
    assert (finding["code"], [place["path"] for place in finding["locations"]]) == ("BN313", ["backbone.1"])
    assert "channel" in finding["message"]
    folds = {pair["reference"]["path"]: pair["fold"] for pair in report["compare"]["layers"]}
    assert {path: fold["holds"] for path, fold in folds.items()} == {
        "backbone.1": False,
        "backbone.4": True,
        "head.2": True,
    }


def test_an_eps_that_no_side_records_is_inferred_and_said(run, pairs):
    report = found(run, "before.pt", "eps.onnx")
    folds = [pair["fold"] for pair in report["compare"]["layers"]]
    assert all(fold["eps_inferred"] and fold["eps"] == pytest.approx(1e-2, rel=1e-3) for fold in folds)
    assert "inferred" in run("compare", "before.pt", "eps.onnx").out
    assert "BN313" in codes(found(run, "module.pt", "eps.onnx"))


def test_frozen_statistics_that_moved_are_an_error(run, pairs):
    for freeze in ("gradient", "no"):
        report = found(run, "before.pt", f"tuned_{freeze}.pt", "--frozen", "backbone.*")
        assert codes(report)["BN602"] >= {"backbone.1", "backbone.4"}
        assert all(path.startswith("backbone.") for path in codes(report)["BN602"])
    report = found(run, "before.pt", "tuned_well.pt", "--frozen", "backbone.*")
    assert "BN602" not in codes(report)
    assert [layer["path"] for layer in report["frozen"][0]["layers"]] == ["backbone.1", "backbone.4"]


def test_a_pattern_that_matches_nothing_is_an_error(run, pairs):
    for command in (["compare", "before.pt", "tuned_well.pt"], ["check", "tuned_well.pt"]):
        outcome = run(*command, "--frozen", "backbone.*", "--frozen", "bakcbone.*")
        assert outcome.code == 1
        assert "BN603" in outcome.out
        assert "bakcbone.*" in outcome.out


def test_a_model_that_is_compared_with_is_built_without_memory(run, pairs):
    outcome = run("compare", "detector_factory:make", "before.pt")
    assert outcome.code == 0
    assert outcome.err == "bn-audit: detector_factory:make is a Python object: importing it runs its code\n"
    assert "detector_factory:make built on the meta device, without values" in outcome.out
    assert "verdict: pass" in outcome.out
    report = found(run, "detector_factory:make", "before.pt")
    assert report["findings"] == []
    assert {item["what"] for item in report["compare"]["values"]["not_compared"]} >= {
        f"norm layer {path}" for path in LAYERS
    }


def test_a_model_of_another_shape_is_a_mismatch(run, pairs):
    assert {"backbone.0", "backbone.1"} <= codes(found(run, "detector_factory:wider", "before.pt"))["BN223"]


def test_the_weights_that_a_factory_loads_are_compared(run, pairs):
    assert found(run, "detector_factory:trained", "before.pt")["findings"] == []
    moved = found(run, "detector_factory:trained", "later.pt")
    assert {entry["reference"] for entry in moved["compare"]["drift"] if entry["effect"] > 0} == set(LAYERS)


def test_a_factory_may_be_the_target(run, pairs):
    report = found(run, "before.pt", "detector_factory:make")
    assert (report["source"], report["format"], report["findings"]) == ("detector_factory:make", "live-module", [])


def test_the_page_holds_the_drift_table(run, pairs, tmp_path):
    page = tmp_path / "drift.html"
    outcome = run("compare", "before.pt", "later.pt", "-o", page)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert all(layer in text for layer in LAYERS)
    assert "later.pt" in text
    assert "before.pt" in text
    assert outcome.out.startswith("later.pt")


@pytest.mark.parametrize("name", ["before.pt", "later.pt"])
def test_neither_side_is_overwritten(run, pairs, name):
    link = pairs / "link.json"
    link.unlink(missing_ok=True)
    link.symlink_to(pairs / name)
    before = (pairs / name).read_bytes()
    assert run("compare", "before.pt", "later.pt", "-o", link).code == 2
    assert (pairs / name).read_bytes() == before


def test_the_gate_compares_too(run, pairs):
    alone = run("check", "stale.onnx")
    assert alone.code == 0
    outcome = run("check", "stale.onnx", "--against", "module.pt", "--format", "json")
    (report,) = json.loads(outcome.out)["reports"]
    assert outcome.code == 1
    assert codes(report)["BN313"] == {"backbone.1"}
    assert report["reference"] == "module.pt"
    assert report["batch_flow"] is not None


def test_the_gate_compares_every_target(run, pairs):
    outcome = run("check", "later.pt", "wider.pt", "--against", "before.pt", "--format", "json", "--jobs", "2")
    reports = json.loads(outcome.out)["reports"]
    assert [report["reference"] for report in reports] == ["before.pt", "before.pt"]
    assert [bool(codes(report).get("BN223")) for report in reports] == [False, True]


@pytest.mark.parametrize("reference", ["missing.pt", "unrelated.pt"])
def test_the_gate_reports_its_own_findings_where_it_cannot_compare(run, pairs, reference):
    outcome = run("check", "tuned_no_module.pt", "--against", reference)
    assert outcome.code == 3
    assert "BN101" in outcome.out
    assert f"failed: compare: {'' if reference == 'missing.pt' else 'tuned'}" in outcome.out


@pytest.mark.parametrize("option", [["--map", "a=b"], ["--values", "all"]])
def test_how_to_compare_goes_with_what_to_compare(run, pairs, option):
    outcome = run("check", "later.pt", *option)
    assert outcome.code == 2
    assert "--against" in outcome.err


@pytest.mark.parametrize(("freeze", "code"), [("well", 0), ("gradient", 1), ("no", 1)])
def test_frozen_layers_of_a_fine_tuning_run_must_evaluate(run, pairs, freeze, code):
    target = f"tuned_{freeze}_module.pt"
    assert run("check", target, "--intent", "finetune", "--ignore", "BN6").code == 0
    outcome = run(
        "check", target, "--intent", "finetune", "--frozen", "backbone", "--ignore", "BN6", "--format", "json"
    )
    assert outcome.code == code
    (report,) = json.loads(outcome.out)["reports"]
    errors = [finding for finding in report["findings"] if finding["severity"] == "error"]
    assert [{place["path"] for place in finding["locations"]} for finding in errors] == (
        [{"backbone.1", "backbone.4"}] if code else []
    )


def test_a_comparison_judges_no_mode(run, pairs):
    assert "BN101" in run("check", "tuned_no_module.pt").out
    assert "BN101" not in run("compare", "before.pt", "tuned_no_module.pt").out


def test_what_is_not_compared_is_said(run, pairs):
    out = run("compare", "before.pt", "module.pt").out
    assert "not compared: the values of 6 tensors outside norm layers" in out
    assert "verdict: match" not in out
    assert "verdict: match" in run("compare", "before.pt", "module.pt", "--values", "all").out


def test_the_api_compares(pairs):
    import bn_audit

    report = bn_audit.compare("before.pt", Detector(), values="all")
    assert report.comparison is not None
    assert len(report.comparison.drift) == 3
    report = bn_audit.check("later.pt", against="before.pt")
    assert report.comparison is not None
    with pytest.raises(bn_audit.UnrelatedError):
        bn_audit.compare("before.pt", "unrelated.pt")
    with pytest.raises(bn_audit.MissingTargetError):
        bn_audit.compare("missing.pt", "before.pt")
    with pytest.raises(bn_audit.UsageError):
        bn_audit.compare("before.pt", "later.pt", values="some")
