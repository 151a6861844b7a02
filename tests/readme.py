"""The generated parts of README.md; ``python tests/readme.py`` writes them anew."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"

_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_SHELL = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def regenerated(text: str) -> str:
    """Return the page with its generated parts as they should be."""
    return _BLOCK.sub(lambda match: match[1] + GENERATORS[match[2]]() + match[3], text)


def shell_blocks(text: str) -> list[str]:
    """Return the contents of the shell blocks; the first two are what a new user runs."""
    return [block.strip() for block in _SHELL.findall(text)]


def example_command(text: str) -> list[str]:
    """Return the last command of the page's first shell block, the one whose output is quoted."""
    return shell_blocks(text)[0].rpartition("&& ")[2].split()


def _example() -> str:
    command = example_command(README.read_text(encoding="utf-8"))
    done = subprocess.run(
        [sys.executable, "-m", "bn_audit", *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode != 1 or done.stderr:
        raise RuntimeError(f"the example ended with {done.returncode}: {done.stderr}")
    return f"```\n{done.stdout}```\n"


def _formats() -> str:
    from bn_audit import plugins

    rows = ((f"`{item.name}`", item.summary, item.tells, item.cannot_tell) for item in plugins.formats())
    return _table(("format", "what it is", "tells", "cannot tell"), rows)


def _rules() -> str:
    from bn_audit import plugins

    rows = ((rule.code, f"`{rule.name}`", rule.severity.value, rule.summary) for rule in plugins.rules())
    return _table(("code", "name", "severity", "finds"), rows)


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    titles = tuple(header)
    cells = [titles, ("---",) * len(titles), *rows]
    return "".join("| " + " | ".join(text.replace("|", "\\|") for text in row) + " |\n" for row in cells)


GENERATORS = {"example": _example, "formats": _formats, "rules": _rules}


if __name__ == "__main__":
    README.write_text(regenerated(README.read_text(encoding="utf-8")), encoding="utf-8")
