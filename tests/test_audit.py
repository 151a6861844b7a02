"""The pipeline: one artifact, many artifacts, and what becomes of failures."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import bn_audit
from bn_audit import audit, plugins
from bn_audit.audit import Options
from bn_audit.errors import (
    AmbiguousFormatError,
    FindingsError,
    MalformedFileError,
    MissingTargetError,
    UnknownFormatError,
    UsageError,
)
from bn_audit.subject.finding import Finding, Intent, Severity
from bn_audit.subject.report import Report
from bn_audit.subject.subject import Subject


def network(*, training: bool) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2))
    for _ in range(3):
        net(torch.randn(4, 3, 6, 6))
    return net.train(training)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    torch.save(network(training=False), tmp_path / "good.pt")
    torch.save(network(training=True), tmp_path / "bad.pt")
    torch.save(network(training=True).state_dict(), tmp_path / "weights.pt")
    torch.save(torch.optim.Adam(network(training=True).parameters()).state_dict(), tmp_path / "optimizer.pt")
    return tmp_path


def codes(report: Report) -> list[str]:
    return [finding.code for finding in report.findings]


def test_one_file(models: Path) -> None:
    good = bn_audit.check(models / "good.pt")
    assert good.findings == ()
    assert good.failed == ()
    assert good.size_bytes == (models / "good.pt").stat().st_size
    assert 0 < good.bytes_read <= good.size_bytes
    bad = bn_audit.check(str(models / "bad.pt"))
    assert codes(bad) == ["BN101"]
    assert [location.path for location in bad.findings[0].locations] == ["1", "4"]


def test_a_live_module_and_its_file_are_judged_alike() -> None:
    assert codes(bn_audit.check(network(training=True))) == ["BN101"]
    assert codes(bn_audit.check(network(training=False))) == []


def test_the_intent_lowers_the_severity(models: Path) -> None:
    (finding,) = bn_audit.check(models / "bad.pt", intent="resume").findings
    assert finding.severity is Severity.NOTE


def test_raise_for_findings(models: Path) -> None:
    bn_audit.check(models / "good.pt").raise_for_findings()
    report = bn_audit.check(models / "bad.pt")
    with pytest.raises(FindingsError, match=r"bad\.pt: BN101 train-mode: .*\[1, 4\]"):
        report.raise_for_findings()
    bn_audit.check(models / "bad.pt", intent="resume").raise_for_findings()
    with pytest.raises(FindingsError):
        bn_audit.check(models / "bad.pt", intent="resume").raise_for_findings(Severity.NOTE)


def test_weights_are_judged_in_a_live_modules_place(models: Path) -> None:
    report = bn_audit.check(network(training=False), weights=models / "weights.pt")
    assert codes(report) == []
    other = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(7)).eval()
    assert {"BN221", "BN222"} & set(codes(bn_audit.check(other, weights=models / "weights.pt")))


@pytest.mark.parametrize(
    ("target", "options", "error"),
    [
        ("absent.pt", {}, MissingTargetError),
        (".", {}, UsageError),
        ("good.pt", {"intent": "ship"}, UsageError),
        ("good.pt", {"select": ["BN9"]}, UsageError),
        ("good.pt", {"weights": "weights.pt"}, UsageError),
        ("text.pt", {}, UnknownFormatError),
    ],
)
def test_what_cannot_be_audited_raises(
    models: Path, monkeypatch: pytest.MonkeyPatch, target: str, options: dict[str, object], error: type[Exception]
) -> None:
    monkeypatch.chdir(models)
    Path("text.pt").write_text("hello")
    with pytest.raises(error):
        bn_audit.check(target, **options)  # type: ignore[arg-type]


def test_weights_must_be_a_state_dict(models: Path) -> None:
    with pytest.raises(UsageError, match="holds no state dict"):
        bn_audit.check(network(training=False), weights=models / "good.pt")


def test_a_run_over_a_directory(models: Path) -> None:
    result = audit.run([str(models)], Options())
    assert [Path(report.source).name for report in result.reports] == ["bad.pt", "good.pt", "weights.pt"]
    assert [Path(name).name for name, _reason in result.listed] == ["optimizer.pt"]
    assert "optimizer state" in result.listed[0][1]
    assert result.exit_code == 1


def test_several_processes_give_the_same_reports(models: Path) -> None:
    one = audit.run([str(models)], Options())
    two = audit.run([str(models)], Options(jobs=2))
    assert [codes(report) for report in two.reports] == [codes(report) for report in one.reports]
    assert two.exit_code == one.exit_code
    assert two.listed == one.listed


def test_progress_is_told(models: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    audit.run([str(models)], Options(), lambda *step: seen.append(step))
    assert [(done, total) for done, total, _name in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_an_unreadable_file_does_not_hide_the_others(models: Path) -> None:
    whole = (models / "bad.pt").read_bytes()
    (models / "cut.pt").write_bytes(whole[: len(whole) // 2])
    result = audit.run([str(models)], Options())
    by_name = {Path(report.source).name: report for report in result.reports}
    assert codes(by_name["bad.pt"]) == ["BN101"]
    assert "truncated" in by_name["cut.pt"].failed[0].error
    assert by_name["cut.pt"].failed[0].traceback is None
    assert result.exit_code == 3


@pytest.mark.parametrize("target", ["absent.pt", "optimizer.pt", "empty"])
def test_nothing_to_audit_is_never_clean(models: Path, target: str) -> None:
    (models / "empty").mkdir()
    result = audit.run([str(models / target)], Options())
    assert result.exit_code == 3
    assert result.reports[0].failed


def test_weights_need_a_factory(models: Path) -> None:
    with pytest.raises(UsageError, match="--weights goes with"):
        audit.run([str(models / "good.pt")], Options(weights="w.pt"))


def test_a_rule_that_fails_is_reported_and_the_others_run(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_subject: Subject) -> Iterator[Finding]:
        raise ZeroDivisionError("oh")
        yield

    def unreadable(_subject: Subject) -> Iterator[Finding]:
        raise MalformedFileError("bn.weight: truncated")
        yield

    rules = {rule.code: rule for rule in plugins.rules()}
    changed = (
        dataclasses.replace(rules["BN205"], check=broken),
        dataclasses.replace(rules["BN206"], check=unreadable),
        rules["BN101"],
    )
    monkeypatch.setattr(plugins, "rules", lambda: changed)
    report = bn_audit.check(models / "bad.pt")
    assert codes(report) == ["BN101"]
    assert [(failure.stage, failure.traceback is None) for failure in report.failed] == [
        ("BN205", False),
        ("BN206", True),
    ]
    assert "ZeroDivisionError" in report.failed[0].error
    assert audit.run([str(models / "bad.pt")], Options()).exit_code == 3


def test_a_file_of_two_formats_is_refused(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fmt,) = (item for item in plugins.formats() if item.name == "torch-checkpoint")
    twin = dataclasses.replace(fmt, name="twin")
    monkeypatch.setattr(plugins, "formats", lambda: (fmt, twin))
    with pytest.raises(AmbiguousFormatError, match="torch-checkpoint and twin at once"):
        bn_audit.check(models / "good.pt")


def test_layers_can_be_loaded_while_the_subject_is_open(models: Path) -> None:
    with audit.read_subject(str(models / "good.pt")) as subject:
        assert subject.norms[0].running_mean is not None
        assert len(subject.norms[0].running_mean.values()) == 4


def test_a_file_is_not_changed(models: Path) -> None:
    path = models / "bad.pt"
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    audit.run([str(path)], Options(intent=Intent.RESUME))
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_what_a_rule_leaves_open_is_reported_as_not_checked(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def leaves(_subject: Subject) -> Iterator[str]:
        yield "one layer is not decided"

    rule = next(rule for rule in plugins.rules() if rule.code == "BN206")
    monkeypatch.setattr(plugins, "rules", lambda: (dataclasses.replace(rule, open_questions=leaves),))
    report = bn_audit.check(models / "good.pt")
    assert [(skipped.code, skipped.reason) for skipped in report.skipped] == [("BN206", "one layer is not decided")]
    assert report.findings == ()
    assert audit.run([str(models / "good.pt")], Options(strict=True)).exit_code == 3


def test_a_pointer_in_a_directory_is_a_failure(models: Path) -> None:
    """Files that Git LFS did not fetch were asked for, whatever their suffix."""
    (models / "bad.pt").unlink()
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"
    for name in ("ema.pt", "pytorch_model.bin", "policy.pkl"):
        (models / name).write_text(pointer)
    result = bn_audit.run([str(models)], Options())
    assert result.exit_code == 3
    assert [Path(report.source).name for report in result.reports if report.failed] == [
        "ema.pt",
        "policy.pkl",
        "pytorch_model.bin",
    ]


def test_a_model_that_is_not_read_is_listed_and_fails_a_strict_run(tmp_path: Path) -> None:
    torch.save(network(training=False), tmp_path / "good.pt")
    torch.save({"state": {}, "param_groups": []}, tmp_path / "optimizer.pt")
    assert bn_audit.run([str(tmp_path)], Options(strict=True)).exit_code == 0
    (tmp_path / "net.tflite").write_bytes(b"\x1c\x00\x00\x00TFL3")
    result = bn_audit.run([str(tmp_path)], Options())
    assert result.exit_code == 0
    assert [Path(name).name for name, _reason in result.listed] == ["net.tflite", "optimizer.pt"]
    assert bn_audit.run([str(tmp_path)], Options(strict=True)).exit_code == 3


def test_a_report_shows_itself_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2)), path)
    assert repr(bn_audit.check(path)) == f"<Report {str(path)!r}: 1 error(s), 0 warning(s), 0 note(s)>"
