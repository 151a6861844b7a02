"""The report as one web page that needs nothing else: no font, no image, no network; a script for charts alone."""

from __future__ import annotations

from typing import TextIO

from bn_audit.interfaces import Reporter
from bn_audit.subject.report import Audit


def render(audit: Audit, out: TextIO, colour: bool) -> None:  # noqa: ARG001 - the page has its own colours
    """Write the audit as one HTML document."""
    from bn_audit.reporters._web.page import document  # every run discovers the reporters, few write this one

    out.write(document(audit))


REPORTER = Reporter(name="html", summary="one self-contained web page", suffixes=(".html",), render=render)
