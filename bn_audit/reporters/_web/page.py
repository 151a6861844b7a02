"""The page: one section for each source, in the order of the text report."""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.reporters._finding_text import stale
from bn_audit.reporters._portable import portable
from bn_audit.reporters._verdict import purpose, strictly, tally, verdict
from bn_audit.reporters._web.chart_style import CHART_STYLE
from bn_audit.reporters._web.comparison import comparison_sections
from bn_audit.reporters._web.findings import accepted, findings
from bn_audit.reporters._web.markup import (
    NOTHING,
    Markup,
    badge,
    code,
    element,
    facts,
    folded,
    joined,
    text,
)
from bn_audit.reporters._web.observation import observation_sections
from bn_audit.reporters._web.overview import anchor, overview, rules, verdict_badge
from bn_audit.reporters._web.script import SCRIPT, SCRIPT_SOURCE
from bn_audit.reporters._web.style import STYLE
from bn_audit.reporters._words import MODE_WORDS, plural, size_text
from bn_audit.styled import clean
from bn_audit.subject.norm import Mode
from bn_audit.subject.report import Audit, Failed, Report
from bn_audit.subject.subject import Model
from bn_audit.version import VERSION

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""What the page may load: nothing; its own style, and with charts its own script, named by its digest. Names out of a
file could not run a script even as markup."""


def document(audit: Audit) -> str:
    """Return the whole page."""
    audit = portable(audit)
    title = "bn-audit report"
    charts = any(report.observation is not None for report in audit.reports)
    policy = f"{POLICY}; script-src {SCRIPT_SOURCE}" if charts else POLICY
    style = STYLE + CHART_STYLE if charts else STYLE
    head = joined(
        (
            Markup('<meta charset="utf-8">'),
            Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
            Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            element("title", text(_title(audit))),
            Markup(f"<style>\n{style}</style>"),
        )
    )
    summary = "; ".join(filter(None, (tally(audit), strictly(audit), purpose(audit))))
    body = joined(
        (
            element("h1", text(title)),
            element("p", text(summary), kind="quiet"),
            overview(audit),
            *(_section(report, audit, number) for number, report in enumerate(audit.reports, start=1)),
            rules(audit),
            _stale(audit),
            _listed(audit),
            element("footer", text(f"bn-audit {VERSION}. bn-audit explain CODE tells why a rule exists.")),
            *((Markup(f"<script>{SCRIPT}</script>"),) if charts else ()),
        )
    )
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}\n</body>\n</html>\n'


def _title(audit: Audit) -> str:
    names = [clean(report.source, 100) for report in audit.reports]
    return f"bn-audit: {names[0]}" if len(names) == 1 else f"bn-audit: {plural(len(names), 'source')}"


def _section(report: Report, audit: Audit, number: int) -> Markup:
    result = verdict(report, audit.fail_on)
    described = frozenset(rule.code for rule in audit.rules)
    header = element(
        "header",
        element("h2", code(report.source)),
        verdict_badge(result.word),
        element("span", text("; ".join(result.details)), kind="quiet"),
        kind="source",
    )
    return element(
        "section",
        joined(
            (
                header,
                facts(_facts(report, audit)),
                *findings(report, described),
                *accepted(report, described),
                *observation_sections(report),
                *comparison_sections(report),
                *_gaps(report),
            )
        ),
        id=anchor(number),
    )


def _facts(report: Report, audit: Audit) -> Iterator[tuple[str, Markup]]:
    """Yield what was audited, in label and content."""
    parts = [report.format or "not read"] + ([size_text(report.size_bytes)] if report.size_bytes else [])
    yield "format", text(", ".join(parts))
    if report.intent is not audit.intent:
        yield "judged for", text(report.intent.value)
    comparison = report.comparison
    if comparison is not None:
        size = f", {size_text(comparison.reference_size_bytes)}" if comparison.reference_size_bytes else ""
        described = text(f" ({comparison.reference_format}{size})")
        yield "reference", joined((code(comparison.reference), described), "")
    for model in report.models:
        named = [f"'{model.route}'"] if model.route else []
        named += [model.type_name] if model.type_name else []
        yield "model", text(" ".join([*named, f"({_form(model)})"]), 400)
    modes: dict[str, int] = {}
    for norm in report.norms:
        what = f"{norm.kind.value} ({MODE_WORDS[norm.mode]})"
        modes[what] = modes.get(what, 0) + 1
    if report.format is not None:
        yield "norm layers", text(", ".join(f"{count} {what}" for what, count in modes.items()) or "none")
    for item in report.frozen:
        count = f" ({plural(len(item.layers), 'norm layer')}, {plural(len(item.tensors), 'tensor')})"
        yield "frozen", joined((code(item.pattern), text(count)), "")
    for flow in report.batch_flow or ():
        where = f" at {flow.path or flow.node}" if flow.path or flow.node else ""
        why = f": {flow.why}" if flow.why else ""
        yield "batch flow", text(f"output {flow.output} {flow.verdict}{where}{why}")


def _form(model: Model) -> str:
    known = {Mode.TRAIN: ", root in train mode", Mode.EVAL: ", root in eval mode"}
    return f"{model.form.value}{known.get(model.mode, '')}"


def _stale(audit: Audit) -> Markup:
    rows = [element("li", text(row)) for row in stale(audit)]
    summary = text("Waivers and entries of the baseline that are no longer needed")
    return folded(summary, element("ul", joined(rows))) if rows else NOTHING


def _gaps(report: Report) -> Iterator[Markup]:
    """Yield what was not checked, not read or failed."""
    items = [f"{skipped.code}: {skipped.reason}" for skipped in report.skipped]
    items += [f"not read: {reason}" for reason in report.unread]
    if items:
        yield element("h3", text("Not checked"))
        yield element("ul", joined(element("li", text(item)) for item in items))
    if report.failed:
        yield element("h3", text("Failed"))
        yield joined(map(_failure, report.failed))


def _failure(failure: Failed) -> Markup:
    rows = (failure.traceback or "").splitlines()
    trace = folded(text("traceback"), element("pre", joined(text(row) for row in rows))) if rows else NOTHING
    return element(
        "article", element("p", badge(failure.stage, "error"), text(" " + failure.error)), trace, kind="error"
    )


def _listed(audit: Audit) -> Markup:
    if not audit.listed:
        return NOTHING
    rows = (element("li", code(name), text(f" ({reason})")) for name, reason in audit.listed)
    return folded(text(f"{plural(len(audit.listed), 'file')} without a model of its own"), element("ul", joined(rows)))
