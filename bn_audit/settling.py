"""What waivers and a baseline take out of the gate, once everything has been audited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bn_audit.interfaces import Rule
from bn_audit.options import Options
from bn_audit.policy import was_judged
from bn_audit.subject.report import Report

if TYPE_CHECKING:
    from bn_audit.baseline import Baseline
    from bn_audit.subject.design import Design
    from bn_audit.subject.waiver import KnownFinding, Waiver


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """The reports as they count, and what the waivers and the baseline have too much."""

    reports: tuple[Report, ...]
    unused_waivers: tuple[Waiver, ...] = ()
    resolved: tuple[KnownFinding, ...] = ()


def known_findings(options: Options) -> Baseline | None:
    """Return the baseline of a run, read before anything is audited.

    Raises:
        UsageError: it is missing, cannot be read, or is no baseline.
    """
    if options.baseline is None or options.accept_findings:
        return None
    from bn_audit.baseline import read_baseline  # few runs have one

    return read_baseline(Path(options.baseline))


def declared_designs(options: Options, source: str) -> frozenset[Design]:
    """Return the designs that the waivers of a run declare for a source today."""
    if not options.waivers:
        return frozenset()
    from bn_audit import waiving

    return waiving.declared(options.waivers, source, waiving.today())


def settle(reports: Sequence[Report], options: Options, known: Baseline | None, rules: Sequence[Rule]) -> Settled:
    """Return the reports without what is waived or known.

    Args:
        rules: Those of the run.
    """
    settled = list(reports)
    unused: tuple[Waiver, ...] = ()
    resolved: tuple[KnownFinding, ...] = ()
    judged = partial(was_judged, rules=rules)
    if options.waivers:
        from bn_audit import waiving

        day = waiving.today()
        results = [waiving.waive(report, options.waivers, day) for report in settled]
        settled = [report for report, _used in results]
        used = frozenset(waiver for _report, found in results for waiver in found)
        unused = waiving.unused(options.waivers, used, settled, judged, are_all=options.covers_settings)
    if known is not None or options.accept_findings:
        from bn_audit import baseline

        settled = [baseline.hide_known(report, known) if known else baseline.accept(report) for report in settled]
        resolved = baseline.resolved(known, settled, judged) if known else ()
    return Settled(reports=tuple(settled), unused_waivers=unused, resolved=resolved)
