"""Settings under the command line: what holds for a run, for one source, and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from bn_audit.configuring import configured, for_source, in_force, in_force_for
from bn_audit.options import Options, SweepOptions
from bn_audit.settings.content import PathSettings, Settings
from bn_audit.subject.finding import Intent, Severity


def path_settings(path: str, number: int = 1, **values: object) -> PathSettings:
    return PathSettings(path=path, directory="", values=values, origin=f"s.toml: target {number}")


def settings(*paths: PathSettings, **values: object) -> Settings:
    return Settings(file="s.toml", values=values, paths=paths)


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    for name in ("models/a.pt", "models/b.pt", "c.pt"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)


def test_the_settings_hold_where_the_command_line_says_nothing() -> None:
    found = settings(intent=Intent.RESUME, ignore=("BN1",), fail_on=Severity.NOTE, severities={"BN204": Severity.ERROR})
    options = configured(Options(), found, ())
    assert (options.intent, options.ignore, options.fail_on) == (Intent.RESUME, ("BN1",), Severity.NOTE)
    assert options.severities == {"BN204": Severity.ERROR}


def test_the_command_line_wins_even_where_it_gives_the_default() -> None:
    found = settings(intent=Intent.RESUME, strict=True, ignore=("BN1",))
    options = configured(Options(ignore=("BN2",)), found, {"intent", "strict", "ignore"})
    assert (options.intent, options.strict, options.ignore) == (Intent.DEPLOY, False, ("BN2",))


def test_without_a_file_nothing_changes() -> None:
    options = Options(intent=Intent.FINETUNE)
    assert configured(options, Settings(), ()) is options


def test_what_holds_for_some_sources_wins_over_what_holds_for_all() -> None:
    found = settings(path_settings("models/*", intent=Intent.FINETUNE, frozen=("stem",)), intent=Intent.RESUME)
    options = configured(Options(), found, ())
    assert for_source(options, "models/a.pt").intent is Intent.FINETUNE
    assert for_source(options, "models/a.pt").frozen == ("stem",)
    assert for_source(options, "c.pt").intent is Intent.RESUME


def test_of_several_tables_the_later_one_wins_and_ignored_codes_add_up() -> None:
    found = settings(
        path_settings("models/*", intent=Intent.FINETUNE, ignore=("BN2",), against="x.pt"),
        path_settings("a.pt", 2, intent=Intent.RESUME, ignore=("BN3",)),
        ignore=("BN1",),
    )
    options = configured(Options(), found, ())
    both = for_source(options, "models/a.pt")
    assert (both.intent, both.ignore, both.against) == (Intent.RESUME, ("BN1", "BN2", "BN3"), "x.pt")
    assert for_source(options, "models/b.pt").ignore == ("BN1", "BN2")


def test_the_command_line_wins_over_what_holds_for_some_sources_but_for_their_ignored_codes() -> None:
    found = settings(path_settings("*.pt", intent=Intent.FINETUNE, against="x.pt", ignore=("BN3",)), ignore=("BN1",))
    options = configured(Options(against="y.pt", ignore=("BN2",)), found, {"intent", "against", "ignore"})
    own = for_source(options, "c.pt")
    assert (own.intent, own.against, own.ignore) == (Intent.DEPLOY, "y.pt", ("BN2", "BN3"))


def test_a_comparison_keeps_its_own_reference() -> None:
    found = settings(path_settings("*.pt", against="x.pt", weights="w.pt", batch_sizes=(1, 2), frozen=("stem",)))
    own = for_source(configured(Options(against="y.pt", comparison_only=True), found, ()), "c.pt")
    assert (own.against, own.weights, own.sweep, own.frozen) == ("y.pt", None, None, ("stem",))


def test_batch_sizes_ask_for_a_run_and_inputs_alone_do_not() -> None:
    found = settings(
        path_settings("a.pt", batch_sizes=(1, 5), inputs=("x=float32:3",)),
        path_settings("b.pt", 2, inputs=("y=int64:2",)),
    )
    options = configured(Options(), found, ())
    run = for_source(options, "models/a.pt").sweep
    assert run is not None
    assert (run.batch_sizes, run.inputs, run.tier) == ((1, 5), ("x=float32:3",), "quick")
    assert not run.trust, "no settings file can grant trust"
    assert for_source(options, "models/b.pt").sweep is None
    asked = configured(Options(sweep=SweepOptions(batch_sizes=(1, 9))), found, {"batch_sizes"})
    own = for_source(asked, "models/b.pt").sweep
    assert own is not None
    assert (own.batch_sizes, own.inputs, own.tier) == ((1, 9), ("y=int64:2",), "full")


def test_inputs_of_an_earlier_table_go_with_the_sizes_of_a_later_one() -> None:
    found = settings(path_settings("*.pt", inputs=("x=float32:3",)), path_settings("a.pt", 2, batch_sizes=(1, 5)))
    run = for_source(configured(Options(), found, ()), "models/a.pt").sweep
    assert run is not None
    assert (run.batch_sizes, run.inputs) == ((1, 5), ("x=float32:3",))


def test_what_holds_for_one_source_tells_its_origins() -> None:
    found = settings(
        path_settings("models", intent=Intent.FINETUNE, ignore=("BN2",), frozen=("stem",)),
        path_settings("a.pt", 2, ignore=("BN3",), batch_sizes=(1, 5), intent=Intent.RESUME),
        ignore=("BN1",),
    )
    given = {"frozen"}
    options = configured(Options(frozen=("head",)), found, given)
    told = {item.key: (item.value, item.origin) for item in in_force_for("models/a.pt", options, found, given)}
    assert told == {
        "intent": (Intent.RESUME, "s.toml: target 2: intent"),
        "against": (None, "default"),
        "weights": (None, "default"),
        "frozen": (("head",), "command line"),
        "ignore": (("BN1", "BN2", "BN3"), "s.toml: ignore, s.toml: target 1: ignore, s.toml: target 2: ignore"),
        "batch-sizes": ((1, 5), "s.toml: target 2: batch-sizes"),
        "inputs": ((), "default"),
    }


def test_a_baseline_is_not_read_where_one_is_written() -> None:
    found = settings(baseline="known.json")
    assert configured(Options(), found, ()).baseline == "known.json"
    assert configured(Options(accept_findings=True), found, ()).baseline is None


def test_every_value_in_force_tells_its_origin() -> None:
    found = settings(intent=Intent.RESUME, fail_on=Severity.NOTE)
    given = {"fail_on"}
    told = {item.key: item for item in in_force(configured(Options(), found, given), ["a.pt"], found, given)}
    assert (told["targets"].value, told["targets"].origin) == (("a.pt",), "command line")
    assert (told["intent"].value, told["intent"].origin) == (Intent.RESUME, "s.toml: intent")
    assert (told["fail-on"].value, told["fail-on"].origin) == (Severity.ERROR, "command line")
    assert (told["jobs"].value, told["jobs"].origin) == (1, "default")
