"""The process around a model: crashes, limits, noise on its streams, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

import bn_audit
from bn_audit.errors import RunError, UnsupportedRunError, UsageError
from bn_audit.measuring import supervision
from bn_audit.measuring.serialisation import written
from bn_audit.measuring.supervision import supervised
from bn_audit.subject.observation import Observation
from bn_audit.subject.run import Job

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")

START = """
import json, os, signal, sys, time
order = json.loads(sys.stdin.readline())
def say(**entry):
    print(json.dumps(entry), flush=True)
def step(what, passes=0):
    say(step=what, passes=passes)
"""

RESULT = Observation(runner="child", verdict="independent", effect=0.5)


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch):
    """Put a script in the child's place; it writes lines as the real one does."""

    def place(script: str) -> None:
        lines = f"result = json.loads({json.dumps(json.dumps(written(RESULT)))})\n"
        monkeypatch.setattr(supervision, "_BOOTSTRAP", START + lines + script)

    return place


def supervise(**changes: object) -> tuple[Observation, list[tuple[str, int]]]:
    said: list[tuple[str, int]] = []
    fields = {"source": "model.onnx", "format": "onnx", "time_limit": 20.0, **changes}
    return supervised(Job(**fields), lambda what, passes: said.append((what, passes))), said


def test_steps_and_result_arrive(child) -> None:
    child("step('batch size 8', 1)\nstep('batch size 1', 3)\nsay(observation=result)")
    assert supervise() == (RESULT, [("batch size 8", 1), ("batch size 1", 3)])


def test_much_noise_on_stderr_blocks_nothing(child) -> None:
    child("sys.stderr.write('x' * 1_000_000)\nsys.stderr.flush()\nsay(observation=result)")
    assert supervise()[0] == RESULT


@POSIX
def test_a_crash_loses_its_step_and_nothing_else(child) -> None:
    child(
        "step('batch size 1')\n"
        "if 'batch size 1' not in order['lost']:\n"
        "    os.kill(os.getpid(), signal.SIGSEGV)\n"
        "result['fails_at_one'] = order['lost']['batch size 1']\n"
        "say(observation=result)"
    )
    assert supervise()[0].fails_at_one == "the backend crashed (SIGSEGV) at this step: batch size 1"


@POSIX
def test_a_third_crash_ends_it(child, tmp_path: Path) -> None:
    count = tmp_path / "count"
    child(
        f"open({str(count)!r}, 'a').write('x')\n"
        "step('step %d' % len(order['lost']))\n"
        "os.kill(os.getpid(), signal.SIGABRT)"
    )
    with pytest.raises(RunError, match=r"model.onnx: the backend crashed \(SIGABRT\) at this step: step 2"):
        supervise()
    assert count.read_text() == "xxx"


@POSIX
def test_a_crash_on_the_way_to_inputs_asks_for_others(child) -> None:
    child("step('finding inputs')\nos.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(RunError, match=r"SIGSEGV.*finding inputs: name other inputs with --input"):
        supervise()


@POSIX
def test_a_crash_before_any_step_is_not_repeated(child) -> None:
    child("sys.stderr.write('no such library\\n'); sys.exit(7)")
    with pytest.raises(RunError, match="exit code 7, last words: no such library"):
        supervise()


@POSIX
def test_a_kill_is_told_as_probable_lack_of_memory(child) -> None:
    child("step('batch size 8')\nos.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(RunError, match="SIGKILL, probably out of memory"):
        supervise()


def test_the_time_limit_ends_it_and_names_the_step(child, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "GRACE", 0.1)
    child("step('batch size 8')\ntime.sleep(60)")
    start = time.monotonic()
    with pytest.raises(RunError, match=r"time limit of 1 s passed at this step: batch size 8.*--time-limit"):
        supervise(time_limit=1.0)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    "kind, expected", [("RunError", RunError), ("UnsupportedRunError", UnsupportedRunError), ("UsageError", UsageError)]
)
def test_errors_keep_their_class(child, kind: str, expected: type[Exception]) -> None:
    child(f"say(error={kind!r}, message='what, why, how')")
    with pytest.raises(expected, match="what, why, how") as caught:
        supervise()
    assert type(caught.value) is expected


def test_a_fault_of_the_child_is_a_fault_here(child) -> None:
    child("say(fault='KeyError: 3', traceback='line 7')")
    with pytest.raises(RuntimeError, match="KeyError: 3") as caught:
        supervise()
    assert caught.value.__notes__ == ["line 7"]


@pytest.mark.parametrize("line", ["not json", "[1]", '{"observation": {"runner": 3}}', '{"observation": {}}', "\\x00"])
def test_a_broken_report_is_no_result(child, line: str) -> None:
    child(f"sys.stdout.write({line!r} + chr(10))")
    with pytest.raises(RunError, match="report"):
        supervise()


@POSIX
@pytest.mark.parametrize("ends", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_leaves_no_process(child, tmp_path: Path, ends: type[BaseException]) -> None:
    pids = tmp_path / "pids"
    child(
        "import subprocess\n"
        "nap = [sys.executable, '-c', 'import time; time.sleep(120)']\n"
        "grandchild = subprocess.Popen(nap)\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{grandchild.pid}}')\n"
        "step('running')\n"
        "time.sleep(120)"
    )

    def interrupt(what: str, passes: int) -> None:
        raise ends

    with pytest.raises(ends):
        supervised(Job(source="m", format="onnx"), interrupt)
    for pid in map(int, pids.read_text().split()):
        assert is_gone(pid)


def is_gone(pid: int) -> bool:
    for _ in range(100):
        try:
            os.kill(pid, 0)
            state = Path(f"/proc/{pid}/stat")
            if state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z":
                return True  # dead, and nobody of ours waits for it
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


FACTORY = """
import os, signal, sys
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 4)
    def forward(self, x):
        print("a model may print")
        os.write(1, b"even so\\n")
        return self.answer(x)
    def answer(self, x):
        return self.head(x)

class Crashing(Net):
    def answer(self, x):
        if len(x) == 1:
            os.kill(os.getpid(), signal.SIGSEGV)
        return self.head(x)

class Hungry(Net):
    def answer(self, x):
        if len(x) == 8:
            torch.empty(1 << 40, dtype=torch.uint8).fill_(1)
        return self.head(x)
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of factories on the path."""
    name = f"made_for_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return name


def live(factory: str, **changes: object) -> Observation:
    job = Job(source=factory, format="live-module", tier="quick", time_limit=100.0, **changes)
    return supervised(job, lambda what, passes: None)


def test_a_model_that_prints_is_measured_all_the_same(factories: str) -> None:
    assert live(f"{factories}:Net").verdict == "independent"


@POSIX
def test_a_model_that_crashes_at_one_size_is_measured_at_the_others(factories: str) -> None:
    seen = live(f"{factories}:Crashing")
    assert "crashed (SIGSEGV)" in seen.fails_at_one
    assert [row.status for row in seen.sizes] == ["failed", "ok", "ok", "ok"]
    assert seen.verdict == "independent"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is Linux's")
def test_the_memory_limit_holds_and_is_told(factories: str) -> None:
    seen = live(f"{factories}:Hungry", memory_limit=4 << 30)
    row = seen.sizes[-1]
    assert (row.batch_size, row.status) == (8, "failed")
    assert "memory" in row.error


@POSIX
def test_the_child_ends_with_its_parent(factories: str, tmp_path: Path) -> None:
    """The parent dies without a word; the child sees its stdin closed."""
    import subprocess

    script = (
        "import os, signal\n"
        "from bn_audit.measuring import supervision\n"
        "from bn_audit.measuring.order import Order\n"
        "from bn_audit.subject.run import Job\n"
        "supervision._BOOTSTRAP = supervision._BOOTSTRAP.replace('main()', "
        "'import time; import bn_audit.measuring.child as c; c._observed = lambda *_: time.sleep(100); c.main()')\n"
        "with supervision._started(Order(job=Job(source='m', format='onnx'))) as child:\n"
        "    print(child.process.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert is_gone(int(done.stdout))


@POSIX
def test_a_size_that_crashes_fails_the_run_beside_the_finding(factories: str) -> None:
    report = bn_audit.sweep(f"{factories}:Crashing", quick=True)
    assert [failure.stage for failure in report.failed] == ["run"]
    assert report.failed[0].error.startswith("batch size 1: the backend crashed (SIGSEGV)")
    assert "BN403" in {finding.code for finding in report.findings}
