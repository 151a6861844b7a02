"""The part of the text report that tells what a run of the model showed."""

from __future__ import annotations

import math
from collections.abc import Iterator

from bn_audit.reporters._log_scale import LogScale, log_scale
from bn_audit.reporters._observation import (
    compared_sizes,
    effect_text,
    effects,
    evidence,
    has_class_scores,
    headline,
    is_doubtful,
    is_noise,
    is_told_elsewhere,
    time_text,
    verdict_word,
)
from bn_audit.reporters._observation_setting import setting, versions
from bn_audit.styled import Line, Span, clean, line
from bn_audit.subject.observation import CANNOT_RUN, CONTENT, INDEPENDENT, Observation, SizeResult
from bn_audit.subject.report import Report

STYLES = {INDEPENDENT: "bold green", CANNOT_RUN: "bold red", CONTENT: "bold red"}
"""Of a verdict's word; every other one is yellow, and so is an independent model that has flags."""

ROWS = 24
"""Batch sizes shown: the largest divergence is always among them; the JSON and HTML reports have all."""

BAR = 24
"""Columns of a bar: with the figures it makes a row that fits into 80."""

BELOW, ABOVE, EMPTY, FLOOR = "▒", "█", "·", "┊"


def observation_lines(report: Report) -> Iterator[Line]:
    """Yield the verdict of the run, what it rests on, the figures by batch size, and how to repeat it."""
    observation = report.observation
    if observation is None or is_told_elsewhere(report):
        return
    word = verdict_word(observation)
    told = headline(observation)
    yield line()
    yield line(("sweep: ", "dim"), (word, _style(observation)), f": {told}" if told else "", indent=2)
    for label, sentence in evidence(observation):
        yield line((f"{label}: ", "dim"), sentence, indent=4)
    yield from _table(observation)
    for label, sentence in setting(observation):
        yield line((f"{label}: ", "dim"), sentence, indent=4)
    if observation.environment:
        yield line(("versions: ", "dim"), versions(observation), indent=4)
    if observation.command:
        yield line(("repeat: ", "dim"), clean(observation.command), indent=4)


def _style(observation: Observation) -> str:
    if observation.verdict == INDEPENDENT and is_doubtful(observation):
        return "bold yellow"
    return STYLES.get(observation.verdict, "bold yellow")


def _table(observation: Observation) -> Iterator[Line]:
    """Draw one row for each batch size, with a bar on a logarithmic scale."""
    if not observation.sizes:
        return
    yield line()
    scale = log_scale(effects(observation))
    scored = has_class_scores(observation)
    legend = f"1e{scale.low:+03d} to 1e{scale.high:+03d}" if compared_sizes(observation) else ""
    yield line(
        (f"{_row('batch', 'status', 'max abs', 'max rel', 'top-1', 'per sample', scored)} {legend}", "dim"), indent=4
    )
    shown = _shown(observation)
    for size in shown:
        yield _size_line(size, observation, scale, scored)
    if len(shown) < len(observation.sizes):
        yield line((f"and {len(observation.sizes) - len(shown)} more batch sizes", "dim"), indent=4)
    if legend:
        yield _legend(observation, scored)
    yield line()


def _legend(observation: Observation, scored: bool) -> Line:
    noise = ""
    if observation.noise_floor is not None:
        noise = f"; {FLOOR} is the noise floor {effect_text(observation.noise_floor)}: below it is floating point"
    elif any(size.max_rel and is_noise(observation, size.max_rel) for size in compared_sizes(observation)):
        noise = f"; {BELOW} is floating point"
    top1 = "; top-1: changed first classes" if scored else ""
    told = f"max rel: of the largest output element of the sample; bars are logarithmic{noise}{top1}"
    return line((told, "dim"), indent=4, hang=0)


def _shown(observation: Observation) -> list[SizeResult]:
    """Return the rows to draw, in their order: all, or those that diverge most or failed."""
    if len(observation.sizes) <= ROWS:
        return list(observation.sizes)
    order = sorted(observation.sizes, key=lambda size: (size.status == "ok", -_rank(size)))[:ROWS]
    kept = {size.batch_size for size in order}
    return [size for size in observation.sizes if size.batch_size in kept]


def _rank(size: SizeResult) -> float:
    return -1.0 if size.max_rel is None else size.max_rel if not math.isnan(size.max_rel) else math.inf


def _size_line(size: SizeResult, observation: Observation, scale: LogScale, scored: bool) -> Line:
    if size.status != "ok" or (size.max_rel is None and size.error):
        style = "bold red" if size.status != "ok" else ""
        return line(f"{size.batch_size:>5}  ", (f"{size.status:<6}", style), f"  {clean(size.error)}", indent=4)
    if size.batch_size == observation.reference_size:
        row = _row(str(size.batch_size), size.status, "-", "-", "-", time_text(size), scored)
        return line(row, (" reference", "dim"), indent=4)
    changed = "-" if size.top1_changes is None else str(size.top1_changes)
    figures = (effect_text(size.max_abs), effect_text(size.max_rel), changed, time_text(size))
    row = _row(str(size.batch_size), size.status, *figures, scored)
    return line(f"{row} ", *_bar(size.max_rel, observation, scale), indent=4)


def _row(size: str, status: str, most: str, relative: str, changed: str, time: str, scored: bool) -> str:
    top1 = f" {changed:>5}" if scored else ""
    return f"{size:>5}  {status:<6} {most:>9} {relative:>9}{top1} {time:>10}"


def _bar(effect: float | None, observation: Observation, scale: LogScale) -> Iterator[Span]:
    """Yield a bar without spaces, so that a narrow terminal wraps it as a whole."""
    if effect is None:
        return
    filled = round(BAR * scale.share(effect))
    if effect > 0:
        filled = max(filled, 1)
    floor = observation.noise_floor
    mark = -1 if floor is None else min(round(BAR * scale.share(floor)), BAR - 1)
    above = not is_noise(observation, effect)
    cells = [(ABOVE if above and column >= mark else BELOW) if column < filled else EMPTY for column in range(BAR)]
    quiet = "".join(cells[: max(mark, 0)])
    yield quiet, "dim"
    if mark >= 0:
        yield FLOOR, "dim"
        cells = cells[mark + 1 :]
    yield "".join(cells), "red" if above else "dim"
