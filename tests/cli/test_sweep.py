"""``bn-audit sweep`` and ``check --batch-sizes``: exit codes, streams, and what is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import bn_audit

ROOT = Path(bn_audit.__file__).parents[1]
FIXTURES = ROOT / "fixtures"

SLOW = """
import time
import torch
from torch import nn


class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        open("started", "a").close()
        time.sleep(0.5)
        return self.fc(x)


def slow():
    return Slow().eval()
"""


def report_of(outcome):
    return json.loads(outcome.out)["reports"][0]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["sweep", "eval_mode.onnx", "--quick"], 0),
        (["sweep", "train_mode.onnx", "--quick"], 1),
        (["sweep", "train_mode.onnx", "--quick", "--exit-zero"], 0),
        (["sweep", "train_mode.onnx", "--quick", "--select", "BN403"], 0),
        (["check", "eval_mode.onnx", "--batch-sizes", "2,4"], 0),
        (["check", "train_mode.onnx", "--batch-sizes", "2,4", "--select", "BN401"], 1),
        (["sweep", "missing.onnx"], 3),
        (["sweep"], 2),
    ],
)
def test_exit_code(run, monkeypatch, arguments, code):
    monkeypatch.chdir(FIXTURES)
    outcome = run(*arguments)
    assert outcome.code == code, outcome.out + outcome.err


def test_a_file_that_can_run_code_is_not_run_without_trust(run, artifacts):
    swept = run("sweep", artifacts / "eval.pt", "--format", "json")
    assert swept.code == 3
    assert json.loads(swept.out)["summary"]["exit_code"] == 3
    assert [skipped["code"] for skipped in report_of(swept)["skipped"]] == ["run"]
    assert "--trust" in swept.err
    checked = run("check", artifacts / "eval.pt", "--batch-sizes", "1,2", "--format", "json")
    assert checked.code == 0
    assert "--trust" in checked.err
    assert [skipped["code"] for skipped in report_of(checked)["skipped"]] == ["run"]


def test_with_trust_it_is_run(run, artifacts):
    outcome = run("sweep", artifacts / "train.pt", "--trust", "--quick", "--batch-sizes", "2,4", "--format", "json")
    report = report_of(outcome)
    assert outcome.code == 1
    assert {"BN101", "BN401"} <= {finding["code"] for finding in report["findings"]}
    assert report["sweep"]["verdict"] == "content"
    assert [size["batch_size"] for size in report["sweep"]["sizes"]] == [2, 4]
    assert "--trust" not in outcome.err


def test_a_state_dict_has_nothing_to_run(run, artifacts):
    outcome = run("sweep", artifacts / "weights.pt", "--trust")
    assert outcome.code == 3
    assert "no code to run" in " ".join(outcome.out.split())


def test_real_samples_and_seeds_reach_the_run(run, tmp_path):
    np.savez(tmp_path / "real.npz", images=np.random.default_rng(0).normal(size=(6, 3, 12, 12)).astype(np.float32))
    model = FIXTURES / "eval_mode.onnx"
    outcome = run(
        "sweep", model, "--quick", "--inputs", tmp_path / "real.npz", "--seed", 7, "--threads", 1, "--format", "json"
    )
    sweep = report_of(outcome)["sweep"]
    assert sweep["inputs"][0]["origin"] == "6 samples of real.npz"
    assert (sweep["seed"], sweep["threads"], sweep["tier"]) == (7, 1, "quick")
    assert "--seed 7" in sweep["command"]


def test_inputs_that_do_not_fit_leave_the_static_findings(run):
    outcome = run("sweep", FIXTURES / "train_mode.onnx", "--input", "images=float32:3x13", "--format", "json")
    report = report_of(outcome)
    assert outcome.code == 3
    assert "BN301" in {finding["code"] for finding in report["findings"]}
    assert [failure["stage"] for failure in report["failed"]] == ["run"]


def test_a_report_does_not_overwrite_the_samples(run, tmp_path):
    samples = tmp_path / "real.json"
    np.savez(tmp_path / "real.npz", images=np.zeros((2, 3, 12, 12), np.float32))
    (tmp_path / "real.npz").rename(samples)
    before = samples.read_bytes()
    outcome = run("sweep", FIXTURES / "eval_mode.onnx", "--quick", "--inputs", samples, "-o", samples)
    assert outcome.code == 2
    assert samples.read_bytes() == before


def test_a_directory_gives_a_report_for_each_model(run, artifacts, tmp_path):
    for name in ("eval_mode.onnx", "train_mode.onnx"):
        (tmp_path / name).write_bytes((FIXTURES / name).read_bytes())
    (tmp_path / "weights.pt").write_bytes((artifacts / "weights.pt").read_bytes())
    outcome = run("sweep", tmp_path, "--quick", "--format", "json")
    reports = json.loads(outcome.out)["reports"]
    assert [report["sweep"] and report["sweep"]["verdict"] for report in reports] == ["independent", "content", None]
    assert outcome.code == 1


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "bn_audit", *map(str, arguments)]


def test_progress_is_drawn_on_a_terminal_and_nowhere_else(tmp_path):
    pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")
    arguments = command("sweep", FIXTURES / "eval_mode.onnx", "--quick")
    primary, secondary = pty.openpty()
    done = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=secondary, env={**os.environ, "TERM": "xterm"})
    os.close(secondary)
    drawn = b""
    while True:
        try:
            chunk = os.read(primary, 65536)
        except OSError:
            break
        drawn += chunk
    out, _ = done.communicate(timeout=60)
    assert done.returncode == 0
    assert b"forward pass" in drawn
    assert b"\x1b" not in out
    plain = subprocess.run(arguments, capture_output=True, check=True)
    assert plain.stderr == b""


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_an_interrupt_ends_the_model_too(tmp_path):
    (tmp_path / "slowly.py").write_text(SLOW)
    running = subprocess.Popen(
        command("sweep", "slowly:slow", "--input", "x=float32:4"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert running.returncode == 130, err
    assert out == b""
    assert b"interrupted" in err
    assert b"Traceback" not in err
    assert _processes_in(tmp_path) == []
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == ["slowly.py", "started"]


def _processes_in(folder: Path) -> list[str]:
    """Return the processes that still work in a folder."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        found = [entry.name for entry in Path("/proc").glob("[0-9]*") if _works_in(entry, folder)]
        if not found:
            return []
        time.sleep(0.1)
    return found


def _works_in(process: Path, folder: Path) -> bool:
    try:
        return (process / "cwd").resolve() == folder.resolve()
    except OSError:
        return False


@pytest.mark.parametrize(("arguments", "code"), [([], 1), (["--batch-axis", "1"], 0)])
def test_the_axis_of_the_samples_holds_for_the_proof_and_the_run(run, tmp_path, arguments, code):
    import onnx.parser

    text = "(float[t, s, 6] x) => (float[t, s, 6] y) { m = ReduceMean <axes = [0]> (x) y = Sub(x, m) }"
    path = tmp_path / "time_first.onnx"
    path.write_bytes(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {text}').SerializeToString())
    outcome = run("sweep", path, "--quick", "--input", "float32:7x6", *arguments)
    assert outcome.code == code, outcome.out + outcome.err
