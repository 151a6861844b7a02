"""Which file holds the settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from bn_audit.errors import UsageError
from bn_audit.settings.locating import load_settings

OURS = "[tool.bn-audit]\nstrict = true\n"
OTHER = "[tool.ruff]\nline-length = 100\n"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the root of a repository; the working directory is three folders below it."""
    root = tmp_path / "repository"
    (root / "a" / "b" / "c").mkdir(parents=True)
    (root / ".git").mkdir()
    monkeypatch.chdir(root / "a" / "b" / "c")
    return root


def codes() -> list[str]:
    return ["BN101"]


def never() -> list[str]:
    raise AssertionError("the rules are not needed")


def file_in_force(config: Path | None = None) -> str | None:
    return load_settings(config, codes).file


def test_the_nearest_file_with_the_table_counts_alone(repository: Path) -> None:
    (repository / "pyproject.toml").write_text("[tool.bn-audit]\njobs = 3\n")
    (repository / "a" / "pyproject.toml").write_text(OURS)
    settings = load_settings(None, codes)
    assert settings.file == "../../pyproject.toml"
    assert settings.values == {"strict": True}


def test_a_file_without_the_table_is_passed_over(repository: Path) -> None:
    (repository / "pyproject.toml").write_text(OURS)
    (repository / "a" / "pyproject.toml").write_text(OTHER)
    (repository / "a" / "b" / "pyproject.toml").write_text('[project]\ndependencies = ["bn-audit"]\n')
    assert file_in_force() == "../../../pyproject.toml"


@pytest.mark.parametrize("header", ['[tool."bn-audit"]', "[ tool . bn-audit ]", "[tool.'bn-audit']"])
def test_every_spelling_of_the_table_is_found(repository: Path, header: str) -> None:
    Path("pyproject.toml").write_text(f"{header}\nstrict = true\n")
    assert file_in_force() == "pyproject.toml"


def test_an_empty_table_counts_too(repository: Path) -> None:
    (repository / "pyproject.toml").write_text(OURS)
    Path("pyproject.toml").write_text("[tool.bn-audit]\n")
    settings = load_settings(None, codes)
    assert (settings.file, settings.values) == ("pyproject.toml", {})


@pytest.mark.parametrize("is_worktree", [False, True])
def test_the_search_ends_at_the_root_of_the_repository(repository: Path, is_worktree: bool) -> None:
    (repository.parent / "pyproject.toml").write_text(OURS)
    if is_worktree:
        (repository / ".git").rmdir()
        (repository / ".git").write_text("gitdir: elsewhere\n")
    assert load_settings(None, never).file is None
    (repository / "pyproject.toml").write_text(OURS)
    assert file_in_force() == "../../../pyproject.toml"


def test_a_file_that_has_nothing_to_do_with_us_is_not_even_parsed(repository: Path) -> None:
    Path("pyproject.toml").write_text("this is [not toml")
    assert load_settings(None, never).file is None


def test_a_broken_file_that_may_be_ours_is_an_error(repository: Path) -> None:
    Path("pyproject.toml").write_text("[tool.bn-audit\nstrict = true")
    with pytest.raises(UsageError, match=r"pyproject\.toml: is not valid TOML .*line 1"):
        file_in_force()


def test_a_file_named_on_the_command_line_replaces_the_search(repository: Path) -> None:
    (repository / "pyproject.toml").write_text(OURS)
    other = repository / "ci.toml"
    other.write_text("jobs = 2\n")
    settings = load_settings(other, codes)
    assert (settings.file, settings.values) == ("../../../ci.toml", {"jobs": 2})


def test_a_named_file_may_hold_the_table_or_the_keys_at_its_top(repository: Path) -> None:
    for name, text in (("pyproject.toml", OURS), ("x.toml", OURS), ("bare.toml", "strict = true"), ("e.toml", "")):
        Path(name).write_text(text)
        expected = {} if name == "e.toml" else {"strict": True}
        assert load_settings(Path(name), codes).values == expected


def test_paths_start_where_a_linked_file_is_named_not_where_it_lies(repository: Path) -> None:
    (repository / "shared.toml").write_text('targets = ["models/"]\n')
    Path("linked.toml").symlink_to(repository / "shared.toml")
    assert load_settings(Path("linked.toml"), codes).targets == ("models/",)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("missing.toml", None, "--config missing.toml: cannot be read"),
        ("pyproject.toml", OTHER, r"has no \[tool.bn-audit\] table"),
        ("other.toml", OTHER, r"has no \[tool.bn-audit\] table"),
        ("broken.toml", "a = ", "--config broken.toml: is not valid TOML"),
        ("deep.toml", "a = " + "[" * 100_000, "--config deep.toml: is not valid TOML"),
        ("pyproject.toml", "[tool]\nbn-audit = 1\n", "tool.bn-audit: is the number 1: write a table"),
    ],
)
def test_a_named_file_that_holds_no_settings_is_an_error(
    repository: Path, name: str, text: str | None, message: str
) -> None:
    if text is not None:
        Path(name).write_text(text)
    with pytest.raises(UsageError, match=message):
        load_settings(Path(name), codes)


def test_bytes_that_are_no_text_are_an_error(repository: Path) -> None:
    Path("x.toml").write_bytes(b"strict = true # \xff")
    with pytest.raises(UsageError, match="is not valid TOML"):
        load_settings(Path("x.toml"), codes)
