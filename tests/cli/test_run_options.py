"""What the command line says about running models, before anything runs."""

from __future__ import annotations

import numpy as np
import pytest

from bn_audit.cli.run_options import batch_sizes, memory_size
from bn_audit.errors import UsageError


@pytest.mark.parametrize(
    ("text", "sizes"),
    [("1", (1,)), ("1,2,8", (1, 2, 8)), ("8,2,1,2", (1, 2, 8)), (" 4 , 2 ", (2, 4)), ("65536", (65536,))],
)
def test_batch_sizes_are_ascending_and_without_duplicates(text, sizes):
    assert batch_sizes(text) == sizes


@pytest.mark.parametrize("text", ["", ",", "1,", "0", "1,0", "-2", "two", "1.5", "1 2", "65537", "9999999999", "1;2"])
def test_what_is_no_batch_size_is_named(text):
    with pytest.raises(UsageError, match="--batch-sizes") as caught:
        batch_sizes(text)
    assert "1,2,8" in str(caught.value)


def test_more_sizes_than_anyone_means_are_refused():
    with pytest.raises(UsageError, match="65 sizes"):
        batch_sizes(",".join(map(str, range(1, 66))))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1000000", 1_000_000),
        ("4GiB", 4 << 30),
        ("4G", 4 << 30),
        ("500MB", 500_000_000),
        ("1.5 KiB", 1536),
        ("2t", 2 << 40),
    ],
)
def test_memory_sizes(text, size):
    assert memory_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "4 giraffes", "-1", "0", "1e9"])
def test_what_is_no_memory_size_is_refused(text):
    with pytest.raises(UsageError, match="--memory-limit"):
        memory_size(text)


@pytest.mark.parametrize("command", ["sweep", "check"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-sizes", "0"], "there is no batch of 0 samples"),
        (["--batch-sizes", ""], "'nothing' is no batch size"),
        (["--batch-sizes", "1,x"], "'x' is no batch size"),
        (["--device", "gpu"], "use cpu, cuda or cuda:N"),
        (["--dtype", "fp32"], "use one of float32"),
        (["--time-limit", "0"], "positive number of seconds"),
        (["--time-limit", "nan"], "positive number of seconds"),
        (["--memory-limit", "much"], "is no size"),
        (["--inputs", "missing.npz"], "there is no such file"),
        (["--inputs", "samples.npy", "--input", "x=float32:3"], "leave one of them out"),
        (["--input", "x=f32:3"], "did you mean float32"),
        (["--input", "x=float32"], "lacks the ':'"),
        (["--input", "x=float32:3", "--input", "x=float32:4"], "occurs 2 times"),
        (["--batch-axis", "-1"], "-1"),
        (["--threads", "0"], "0"),
        (["--seed", "-1"], "-1"),
    ],
)
def test_usage_errors_come_before_anything_is_read(run, tmp_path, monkeypatch, command, arguments, message):
    monkeypatch.chdir(tmp_path)
    np.save("samples.npy", np.zeros((4, 3), np.float32))
    sizes = ["--batch-sizes", "1,2"] if "--batch-sizes" not in arguments else []
    done = run(command, "no-such-file.pt", *sizes, *arguments)
    assert done.code == 2, done.text
    assert message in " ".join(done.err.split())
    assert done.out == ""


@pytest.mark.parametrize("option", [["--trust"], ["--device", "cuda"], ["--input", "x=float32:3"], ["--seed", "3"]])
def test_how_to_run_without_a_run_is_a_usage_error(run, artifacts, option):
    done = run("check", artifacts / "eval.pt", *option)
    assert done.code == 2
    assert "--batch-sizes 1,2,8" in done.err


def test_settings_that_ask_for_a_run_take_how_from_the_command_line(tmp_path):
    from bn_audit.configuring import for_source
    from bn_audit.options import Options, SweepOptions
    from bn_audit.settings.content import PathSettings

    path = PathSettings(path="*.onnx", values={"batch_sizes": (1, 4)}, directory=str(tmp_path), origin="here")
    options = Options(running=SweepOptions(trust=True, seed=5), paths=(path,))
    sweep = for_source(options, str(tmp_path / "model.onnx")).sweep
    assert sweep is not None
    assert (sweep.batch_sizes, sweep.trust, sweep.seed, sweep.tier) == ((1, 4), True, 5, "quick")
    assert for_source(options, str(tmp_path / "model.pt")).sweep is None
