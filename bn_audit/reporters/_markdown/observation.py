"""What a run of the model showed, in Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.reporters._markdown.markup import (
    Html,
    Markdown,
    bold,
    code,
    code_html,
    folded,
    items,
    joined,
    plain_html,
    table,
    text,
)
from bn_audit.reporters._observation import (
    effect_text,
    evidence,
    has_class_scores,
    headline,
    is_told_elsewhere,
    time_text,
    verdict_word,
)
from bn_audit.reporters._observation_setting import setting, versions
from bn_audit.subject.observation import Observation, SizeResult
from bn_audit.subject.report import Report

ROWS = 24
"""Batch sizes in the table; the JSON and HTML reports have all."""


def observation_parts(report: Report) -> Iterator[str]:
    """Yield the verdict of the run with what it rests on, then the figures and how to repeat it; none without a run."""
    observation = report.observation
    if observation is None or is_told_elsewhere(report):
        return
    told = headline(observation)
    said = joined(code(report.source), bold(verdict_word(observation)), text(told))
    yield f"**Run at several batch sizes:** {said}\n\n{_labelled(evidence(observation))}"
    if observation.sizes:
        yield _sizes(observation)
    rows = [*setting(observation), *((("versions", versions(observation)),) if observation.environment else ())]
    repeat = joined(bold("repeat:"), code(observation.command, 2000)) if observation.command else Markdown("")
    run = _labelled(iter(rows)) + (items([repeat]) if repeat else "")
    yield folded(Html(f"{plain_html('how it was run:')} {code_html(report.source)}"), run)


def _labelled(told: Iterator[tuple[str, str]]) -> str:
    return items(joined(bold(f"{label}:"), text(sentence)) for label, sentence in told)


def _sizes(observation: Observation) -> str:
    scored = has_class_scores(observation)
    header = [
        "batch size",
        "status",
        "max absolute",
        "max relative",
        *(["changed top-1"] if scored else []),
        "per sample",
    ]
    shown = observation.sizes[:ROWS]
    rows = (_size(size, scored, size.batch_size == observation.reference_size) for size in shown)
    hidden = len(observation.sizes) - len(shown)
    more = f"\nand {hidden} more batch sizes.\n" if hidden else ""
    floor = observation.noise_floor
    noise = f"\nBelow {effect_text(floor)} a difference is floating point.\n" if floor is not None else ""
    return table(header, rows) + more + noise


def _size(size: SizeResult, scored: bool, is_reference: bool) -> list[Markdown]:
    status = f"{size.status}: {size.error}" if size.error else size.status
    status = "the others are compared with it" if is_reference else status
    figures = ["-", "-"] if is_reference else [effect_text(size.max_abs), effect_text(size.max_rel)]
    changed = "-" if size.top1_changes is None or is_reference else str(size.top1_changes)
    cells = [str(size.batch_size), status, *figures, *([changed] if scored else []), time_text(size)]
    return [text(cell) for cell in cells]
