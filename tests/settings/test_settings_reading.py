"""What a settings file may say, and how its mistakes are told."""

from __future__ import annotations

import re
import tomllib
from datetime import date
from pathlib import Path

import pytest

import bn_audit
from bn_audit import plugins
from bn_audit.errors import UsageError
from bn_audit.settings.content import Settings
from bn_audit.settings.keys import GENERAL, PER_PATH
from bn_audit.settings.reading import read_settings
from bn_audit.subject.design import DESIGN_CODES, Design
from bn_audit.subject.finding import Intent, Severity

CODES = ("BN101", "BN102", "BN204", "BN504")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(folder: Path, text: str) -> Settings:
    (folder / "pyproject.toml").write_text(text)
    return read_settings(folder / "pyproject.toml", tomllib.loads(text), CODES)


def test_every_general_key_becomes_its_value(folder: Path) -> None:
    settings = read(
        folder,
        """
        targets = ["models/", "net.onnx"]
        intent = "finetune"
        select = ["BN1", "bn204"]
        ignore = "BN102"
        severity = { BN204 = "error", BN101 = "note" }
        fail-on = "warning"
        strict = true
        frozen = ["backbone_2d.blocks.*", "vfe"]
        flow = false
        jobs = 4
        baseline = "ci/known.json"
        """,
    )
    assert settings.targets == ("models/", "net.onnx")
    assert settings.values == {
        "intent": Intent.FINETUNE,
        "select": ("BN1", "BN204"),
        "ignore": ("BN102",),
        "severities": {"BN204": Severity.ERROR, "BN101": Severity.NOTE},
        "fail_on": Severity.WARNING,
        "strict": True,
        "frozen": ("backbone_2d.blocks.*", "vfe"),
        "flow": False,
        "jobs": 4,
        "baseline": "ci/known.json",
    }


def test_a_key_that_is_not_there_sets_nothing(folder: Path) -> None:
    settings = read(folder, "strict = false")
    assert settings.values == {"strict": False}
    assert (settings.targets, settings.paths, settings.waivers) == ((), (), ())


def test_tables_for_some_sources(folder: Path) -> None:
    (found,) = read(
        folder,
        """
        [[target]]
        path = "models/gan*.pt"
        intent = "resume"
        against = "reference/gan.pt"
        weights = "weights.pt"
        frozen = "stem"
        ignore = ["BN5"]
        batch-sizes = [1, 2, 8]
        inputs = ["x=float32:3x8x8"]
        """,
    ).paths
    assert (found.path, found.origin) == ("models/gan*.pt", "pyproject.toml: target 1")
    assert found.values == {
        "intent": Intent.RESUME,
        "against": "reference/gan.pt",
        "weights": "weights.pt",
        "frozen": ("stem",),
        "ignore": ("BN5",),
        "batch_sizes": (1, 2, 8),
        "inputs": ("x=float32:3x8x8",),
    }


def test_waivers(folder: Path) -> None:
    first, second, third = read(
        folder,
        """
        [[waiver]]
        code = "bn101"
        path = "models/gan.pt"
        layer = "generator.*"
        reason = "pix2pix: test-time\\n   batch statistics"
        expires = 2027-01-31
        [[waiver]]
        intent = "mc-dropout"
        reason = "samples"
        expires = "2027-02-01"
        [[waiver]]
        code = ["BN101", "BN102"]
        intent = "batch-statistics"
        reason = "both"
        """,
    ).waivers
    assert (first.codes, first.path, first.layer, first.expires) == (
        ("BN101",),
        "models/gan.pt",
        "generator.*",
        date(2027, 1, 31),
    )
    assert first.reason == "pix2pix: test-time batch statistics"
    assert first.origin == "pyproject.toml: waiver 1"
    assert (second.codes, second.intent) == (DESIGN_CODES[Design.MC_DROPOUT], Design.MC_DROPOUT)
    assert second.expires == date(2027, 2, 1)
    assert (third.codes, third.intent) == (("BN101", "BN102"), Design.BATCH_STATISTICS)


def test_waivers_in_files_of_their_own(folder: Path) -> None:
    (folder / "ci").mkdir()
    (folder / "ci" / "waivers.toml").write_text('[[waiver]]\ncode = "BN101"\nreason = "why"\n')
    (waiver,) = read(folder, 'waivers = "ci/waivers.toml"').waivers
    assert waiver.origin == "ci/waivers.toml: waiver 1"
    assert Path(waiver.directory) == (folder / "ci").resolve()


def test_paths_start_in_the_folder_of_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "deep").mkdir()
    monkeypatch.chdir(folder / "deep")
    settings = read(
        folder,
        """
        targets = ["models/*.pt", "shop.vision:make", "/abs/model.pt"]
        baseline = "known.json"
        [[target]]
        path = "models/*.pt"
        against = "shop.vision:make"
        """,
    )
    assert settings.file == "../pyproject.toml"
    assert settings.targets == ("../models/*.pt", "shop.vision:make", "/abs/model.pt")
    assert settings.values["baseline"] == "../known.json"
    assert settings.paths[0].path == "models/*.pt"
    assert Path(settings.paths[0].directory) == folder.resolve()
    assert settings.paths[0].values["against"] == "shop.vision:make"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fail_on = 'error'", "pyproject.toml: there is no key 'fail_on': did you mean fail-on?"),
        ("[[waivers]]\ncode = 'BN101'", "waivers: holds tables: write [[waiver]] for each"),
        ("zzz = 1", "there is no key 'zzz': use one of intent, select"),
        ("intent = 'deplyo'", "pyproject.toml: intent: there is no intent 'deplyo': did you mean deploy?"),
        ("intent = 1", "intent: is the number 1: write a string"),
        ("intent = ''", "intent: is empty"),
        ("select = ['BN105x']", "select: there is no rule code 'BN105x': did you mean BN10"),
        ("ignore = ['XX']", "ignore: there is no rule code 'XX': use one of BN1, BN2, BN5"),
        ("ignore = [1]", "ignore: is the number 1: write a string"),
        ("ignore = { a = 1 }", "ignore: is a table: write a list of strings"),
        ("severity = 'error'", "severity: is the string 'error': write a table"),
        ("severity = { BN999 = 'error' }", "severity: there is no rule code 'BN999'"),
        ("severity = { BN101 = 'eror' }", "severity: BN101: there is no severity 'eror': did you mean error?"),
        ("severity = { BN101 = 'off' }", "severity: BN101: there is no severity 'off': use one of error, warning"),
        ("fail-on = 'never'", "fail-on: there is no severity 'never'"),
        ("strict = 'yes'", "strict: is the string 'yes': write true or false"),
        ("strict = 1", "strict: is the number 1: write true or false"),
        ("jobs = 0", "jobs: is 0: write a number from 1 up"),
        ("jobs = true", "jobs: is true: write a whole number"),
        ("jobs = 1.5", "jobs: is the number 1.5: write a whole number"),
        ("jobs = 1979-05-27", "jobs: is a date or time"),
        ("targets = ['']", "targets: is empty"),
        ("frozen = [' ']", "frozen: is empty"),
        ("frozen = ['.']", "frozen: '.' matches nothing"),
        ("waivers = 'a\\u0000b'".replace("'", '"'), "waivers: holds a NUL character"),
        ("baseline = []", "baseline: is a list: write a string"),
        ("target = 1", "target: is the number 1: write one [[target]] table for each"),
        ("[[target]]\nintent = 'resume'", "target 1: has no path"),
        (
            "[[target]]\npath = 'a'\n[[target]]\npath = 'b'\nbatch_sizes = [1]",
            "target 2: there is no key 'batch_sizes'",
        ),
        ("[[target]]\npath = 'a'\nbatch-sizes = []", "target 1: batch-sizes: is empty: write a list of numbers"),
        ("[[target]]\npath = 'a'\nbatch-sizes = [0]", "batch-sizes: is 0"),
        ("[[target]]\npath = 'a'\ninputs = 'x'", "target 1: inputs: 'x' is no input: write NAME=DTYPE:SHAPE"),
        ("[[target]]\npath = 'a'\nselect = ['BN1']", "there is no key 'select'"),
        ("waiver = [1]", "waiver 1: is the number 1: write a table"),
        ("[[waiver]]\ncode = 'BN101'", "pyproject.toml: waiver 1: has no reason"),
        ("[[waiver]]\ncode = 'BN101'\nreason = '  '", "waiver 1: reason: is empty"),
        ("[[waiver]]\nreason = 'x'", "waiver 1: names no rule"),
        ("[[waiver]]\ncode = []\nreason = 'x'", "waiver 1: code: is empty"),
        ("[[waiver]]\ncode = 'BN1'\nreason = 'x'", "waiver 1: code: there is no rule code 'BN1'"),
        ("[[waiver]]\ncode = 'BN101'\nreson = 'x'", "there is no key 'reson': did you mean reason?"),
        ("[[waiver]]\ncode = 'BN101'\nreason = 'x'\nexpires = 'soon'", "expires: is 'soon', which is no date"),
        ("[[waiver]]\ncode = 'BN101'\nreason = 'x'\nexpires = 2027-01-01T00:00:00", "expires: is a date or time"),
        (
            "[[waiver]]\nintent = 'mc_dropout'\nreason = 'x'",
            "no design 'mc_dropout': did you mean mc-dropout?",
        ),
        ("waivers = 'missing.toml'", "waivers: missing.toml: cannot be read"),
    ],
)
def test_a_mistake_names_file_key_and_what_is_right(folder: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(folder, text)
    assert message in str(caught.value)
    assert str(caught.value).startswith("pyproject.toml: ")


def test_a_file_of_waivers_holds_nothing_else(folder: Path) -> None:
    (folder / "w.toml").write_text("strict = true\n")
    with pytest.raises(UsageError, match=r"w\.toml: there is no key 'strict'"):
        read(folder, "waivers = 'w.toml'")


def test_the_example_of_the_readme_is_read_and_leaves_no_key_out(folder: Path) -> None:
    readme = Path(bn_audit.__file__).parents[1] / "README.md"
    (text,) = re.findall(r"```toml\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    content = tomllib.loads(text)["tool"]["bn-audit"]
    settings = read_settings(folder / "pyproject.toml", content, [rule.code for rule in plugins.rules()])
    assert set(settings.values) == {key.field for key in GENERAL}
    named = {name for found in settings.paths for name in found.values}
    assert named | {"weights"} == {key.field for key in PER_PATH}
    assert len(settings.waivers) == 2
