"""Names of sources relative to a folder, and the globs over them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from random import Random

import pytest

from bn_audit.subject.source_name import is_match, within


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("model.pt", "model.pt"),
        ("*.pt", "model.pt"),
        ("*.pt", "models/deep/model.pt"),
        ("models", "models/deep/model.pt"),
        ("models/", "models/model.pt"),
        ("./models/*.pt", "models/model.pt"),
        ("models/*", "models/deep/model.pt"),
        ("models/**/model.pt", "models/model.pt"),
        ("models/**/model.pt", "models/a/b/model.pt"),
        ("**/gan_?.pt", "x/gan_1.pt"),
        ("models/gan[0-9].pt", "models/gan7.pt"),
        ("../shared/*.pt", "../shared/m.pt"),
        ("shop.vision:make_model", "shop.vision:make_model"),
        ("shop.*", "shop.vision:make_model"),
    ],
)
def test_a_pattern_matches(pattern: str, name: str) -> None:
    assert is_match(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("model.pt", "other_model.pt"),
        ("models/*.pt", "models/deep/model.pt"),
        ("models/*.pt", "old/models/model.pt"),
        ("odels", "models/model.pt"),
        ("model.pt", "model.pt.bak"),
        ("models/**/x.pt", "models/y.pt"),
        ("model.pt/**", "model.pt"),
        ("MODEL.pt", "model.pt"),
        ("", "model.pt"),
        ("/", "model.pt"),
        ("a.b", "a_b"),
    ],
)
def test_a_pattern_does_not_match(pattern: str, name: str) -> None:
    assert not is_match(pattern, name)


def test_a_source_is_named_from_the_folder_whatever_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "models" / "m.pt"
    file.parent.mkdir()
    file.touch()
    monkeypatch.chdir(file.parent)
    for source in ("m.pt", "./m.pt", "../models/m.pt", str(file)):
        assert within(source, tmp_path) == "models/m.pt"
        assert within(source, "..") == "models/m.pt"
    assert within(str(file), tmp_path / "models" / "other") == "../m.pt"
    assert within(".", tmp_path) == "models"


def test_links_to_folders_are_followed_and_links_to_files_keep_their_name(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "blob").touch()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "model.pt").symlink_to(tmp_path / "real" / "blob")
    assert within(str(tmp_path / "link" / "model.pt"), tmp_path) == "real/model.pt"


def test_what_is_no_file_keeps_its_name(tmp_path: Path) -> None:
    assert within("shop.vision:make_model", tmp_path) == "shop.vision:make_model"
    assert within("\0", tmp_path)


def test_globs_mean_what_they_mean_in_a_gitignore(tmp_path: Path) -> None:
    chance = Random(0)
    pieces = ["a", "b", "ab", "*", "a*", "?", "**", "*.pt", "m.pt", "[ab]", "x"]
    names = sorted({"/".join(chance.choices(["a", "b", "ab", "m.pt", "x"], k=chance.randint(1, 4))) for _ in range(99)})
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    matched = 0
    for _ in range(50):
        pattern = "/".join(chance.choices(pieces, k=chance.randint(1, 4)))
        (tmp_path / ".gitignore").write_text(f"{pattern}\n")
        command = ["git", "check-ignore", "--no-index", "--stdin"]
        text = "\n".join(names)
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, input=text, capture_output=True, encoding="utf-8", check=False
        )
        told = done.stdout.splitlines()
        assert [name for name in names if is_match(pattern, name)] == told, pattern
        matched += len(told)
    assert matched > 500
