"""Sources as another machine may read of them."""

from pathlib import Path

import hand_made
import hand_made_sweeps
import pytest
from hand_made import audit, comparison, finding, report

from bn_audit.reporters._portable import portable
from bn_audit.subject.finding import Location
from bn_audit.subject.report import Failed, Skipped


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch):
    monkeypatch.setattr("os.getcwd", lambda: "/repo/checkout")


def names(*sources, root="/repo/checkout"):
    return [item.source for item in portable(audit(*map(report, sources)), root).reports]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("model.pt", "model.pt"),
        ("./models//a.pt", "models/a.pt"),
        ("/repo/checkout/models/a.pt", "models/a.pt"),
        ("/repo/checkout2/a.pt", "a.pt"),
        ("/data/secret/a.pt", "a.pt"),
        ("../a.pt", "a.pt"),
        ("..hidden/a.pt", "..hidden/a.pt"),
        ("shop.vision:make", "shop.vision:make"),
        ("/a.pt", "a.pt"),
    ],
)
def test_a_source_is_named_from_the_root(source, name):
    assert names(source) == [name]


def test_names_outside_are_told_apart_by_as_few_folders_as_it_takes():
    assert names("/x/a/m.pt", "/x/b/m.pt", "/y/b/m.pt", "m.pt", "/z/n.pt") == [
        "a/m.pt",
        "b/m.pt",
        "y/b/m.pt",
        "m.pt",
        "n.pt",
    ]


def test_links_above_the_source_are_followed_and_the_source_keeps_its_name(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "store").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "m.pt").symlink_to(tmp_path / "store")
    assert names(str(tmp_path / "link" / "m.pt"), root=str(tmp_path / "real")) == ["m.pt"]
    assert names(str(tmp_path / "real" / "m.pt"), root=str(tmp_path / "link")) == ["m.pt"]


def test_errors_lose_the_folders_and_nodes_keep_their_slashes():
    of = audit(
        report(
            "/data/secret/m.onnx",
            findings=(
                finding(message="/data/conv/Conv in /data/secret/m.onnx", locations=(Location(node="/data/c"),)),
            ),
            skipped=(Skipped(code="BN1", reason="/data/secret/weights.bin is missing"),),
            failed=(
                Failed(
                    stage="BN2",
                    error="/repo/checkout/plugin.py: raised",
                    traceback='File "/repo/checkout/plugin.py", line 1\n  File "/data/secret/x.py"',
                ),
            ),
            unread=("/data/secret/m.onnx.data: not there",),
            comparison=comparison(reference="/data/secret/r.pt", remarks=("/data/secret/r.pt is built",)),
        ),
        listed=[("/data/secret/o.pt", "/data/secret/o.pt holds optimizer state")],
    )
    told = portable(of, "/repo/checkout")
    (item,) = told.reports
    assert item.source == "m.onnx"
    assert item.findings[0].message == "/data/conv/Conv in m.onnx"
    assert item.findings[0].locations == (Location(node="/data/c"),)
    assert item.skipped[0].reason == "weights.bin is missing"
    assert item.failed[0].error == "plugin.py: raised"
    assert item.failed[0].traceback == 'File "plugin.py", line 1\n  File "x.py"'
    assert item.unread == ("m.onnx.data: not there",)
    assert item.comparison.reference == "r.pt"
    assert item.comparison.remarks == ("r.pt is built",)
    assert told.listed == (("o.pt", "o.pt holds optimizer state"),)


def test_a_source_at_the_root_of_the_disk_takes_no_slash_from_other_words():
    of = audit(report("/m.pt", failed=(Failed(stage="read", error="/m.pt: eval/train of a/b"),)))
    assert portable(of, "/").reports[0].failed[0].error == "m.pt: eval/train of a/b"


@pytest.mark.parametrize("case", hand_made.ALL)
def test_relative_sources_change_nothing(case):
    assert portable(hand_made.ALL[case]) == hand_made.ALL[case]


def test_what_a_run_says_names_no_folder_of_this_machine():
    folder = "/repo/checkout/models"
    observed = hand_made_sweeps.observation(
        why=f"{folder}/m.pt: too slow",
        command=f"bn-audit sweep {folder}/m.pt --inputs /repo/checkout/x.npz",
        remarks=(f"values of /repo/checkout/x.npz for {folder}/m.pt",),
        sizes=(hand_made_sweeps.size(2, None, status="failed", error=f"{folder}/m.pt: no"),),
    )
    told = portable(audit(report(f"{folder}/m.pt", observation=observed)), "/repo/checkout").reports[0].observation
    assert told.command == "bn-audit sweep models/m.pt --inputs x.npz"
    assert told.why == "models/m.pt: too slow"
    assert told.remarks == ("values of x.npz for models/m.pt",)
    assert told.sizes[0].error == "models/m.pt: no"


@pytest.mark.parametrize("case", [case for case in hand_made_sweeps.ALL if case != "sweep_hostile"])
def test_a_run_on_plain_names_is_left_as_it_is(case):
    assert portable(hand_made_sweeps.ALL[case]) == hand_made_sweeps.ALL[case]


def test_a_file_that_a_model_names_in_its_error_loses_its_folders():
    error = f"RuntimeError at /layer1/bn/Add: no such file: '{Path.home()}/private/labels.txt' for x /y"
    of = audit(report("m.pt", failed=(Failed(stage="run", error=error),)))
    told = portable(of, "/repo/checkout").reports[0].failed[0].error
    assert told == "RuntimeError at /layer1/bn/Add: no such file: '.../labels.txt' for x /y"
