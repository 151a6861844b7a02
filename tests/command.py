"""Run the real command line in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import bn_audit

_ROOT = Path(bn_audit.__file__).parents[1]

HEAVY = ("torch", "numpy", "onnx", "onnxruntime")

_WITHOUT = """
import sys

class Blocker:
    attempts = []
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {heavy!r}:
            self.attempts.append(name)
            raise ImportError(name + " is blocked")
        return None

sys.meta_path.insert(0, Blocker())
from bn_audit.__main__ import main
try:
    main()
finally:
    print("loaded:", ",".join(name for name in sys.modules if name.startswith("bn_audit.")), file=sys.stderr)
    print("attempted:", ",".join(Blocker.attempts), file=sys.stderr)
"""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run of the command left."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Both streams."""
        return self.out + self.err


def bn_audit_command(
    *arguments: str | Path, without: tuple[str, ...] = (), memory_bytes: int | None = None, seconds: float = 60
) -> Outcome:
    """Run ``bn-audit`` and return what it did.

    Args:
        without: Packages whose import fails; the last lines on standard error are ``loaded:``, with the modules of
            the program that were loaded, and ``attempted:``, with each of these imports that it tried.
        memory_bytes: Limit of the address space, where the platform has one.
        seconds: Limit of wall time; more raises ``subprocess.TimeoutExpired``.
    """
    start = ["-c", _WITHOUT.format(heavy=set(without))] if without else ["-m", "bn_audit"]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "PYTHONWARNINGS": "error", "COLUMNS": "100"}
    for name in ("FORCE_COLOR", "PYTHONDONTWRITEBYTECODE"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, *start, *map(str, arguments)],
        capture_output=True,
        timeout=seconds,
        env=environment,
        stdin=subprocess.DEVNULL,
        preexec_fn=None if memory_bytes is None or sys.platform == "win32" else _limit(memory_bytes),
        check=False,
    )
    return Outcome(
        code=done.returncode, out=done.stdout.decode("utf-8", "replace"), err=done.stderr.decode("utf-8", "replace")
    )


def _limit(memory_bytes: int):
    def apply() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))

    return apply
