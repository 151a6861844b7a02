"""What waivers and a baseline took out of the gate, in lines: never silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bn_audit.reporters._finding_text import stale, terms
from bn_audit.reporters._fold import fold_line
from bn_audit.reporters._words import plural
from bn_audit.styled import Line, clean, line
from bn_audit.subject.finding import Location
from bn_audit.subject.report import Audit, Report

MANY = 6
"""Waivers and entries of a baseline told one by one; the JSON report has all."""


def accepted_lines(report: Report, place: Callable[[Location], str]) -> Iterator[Line]:
    """Yield one line for each waived finding of a source, and one for what its baseline holds.

    Args:
        place: Returns a location in words.
    """
    for item in report.waived:
        where = fold_line([place(location) for location in item.finding.locations])
        at = f" at {where}" if where else ""
        told = f"{item.finding.code} {item.finding.name}{at}: {clean(item.reason)}"
        yield line((f"waived{terms(item)}: ", "yellow"), told, indent=2)
    if report.baselined:
        codes = ", ".join(sorted({finding.code for finding in report.baselined}))
        yield line(("in the baseline: ", "yellow"), f"{plural(len(report.baselined), 'finding')} ({codes})", indent=2)


def outdated_lines(audit: Audit) -> Iterator[Line]:
    """Yield a line for each waiver that waives nothing and each entry of the baseline that no longer occurs."""
    told = stale(audit)
    for sentence in told[:MANY]:
        yield line(("outdated: ", "yellow"), clean(sentence))
    if len(told) > MANY:
        yield line(("outdated: ", "yellow"), f"{len(told) - MANY} more waivers and entries of the baseline")
