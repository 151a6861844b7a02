"""SARIF 2.1.0, for code scanning and for the viewers that read it."""

from __future__ import annotations

from typing import TextIO

from bn_audit.interfaces import Reporter
from bn_audit.subject.report import Audit


def render(audit: Audit, out: TextIO, colour: bool) -> None:  # noqa: ARG001 - colour has no meaning here
    """Write the audit as one SARIF log with one run."""
    from bn_audit.reporters._sarif.log import document  # every run discovers the reporters, few write this one

    out.write(document(audit))


REPORTER = Reporter(name="sarif", summary="SARIF 2.1.0, for code scanning", suffixes=(".sarif",), render=render)
