"""The report in Markdown: a comment for a pull request, or the summary of a job."""

from __future__ import annotations

from typing import TextIO

from bn_audit.interfaces import Reporter
from bn_audit.subject.report import Audit


def render(audit: Audit, out: TextIO, colour: bool) -> None:  # noqa: ARG001 - the page that shows it has its own
    """Write the audit in GitHub's Markdown, short enough for one comment."""
    from bn_audit.reporters._markdown.comment import comment  # every run discovers the reporters, few write this one

    out.write(comment(audit))


REPORTER = Reporter(name="markdown", summary="a comment for a pull request", suffixes=(".md",), render=render)
