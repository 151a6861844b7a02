"""The sections about a run of the model: its verdict, charts, figures by batch size, norm layers, how to repeat it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from bn_audit.reporters._log_scale import log_scale
from bn_audit.reporters._observation import (
    compared_sizes,
    effect_text,
    effects,
    evidence,
    has_class_scores,
    headline,
    is_doubtful,
    is_told_elsewhere,
    time_text,
    verdict_word,
)
from bn_audit.reporters._observation_setting import setting, versions
from bn_audit.reporters._web.heat_map import heat_map
from bn_audit.reporters._web.layer_chart import layer_chart
from bn_audit.reporters._web.markup import NOTHING, Markup, badge, code, element, facts, folded, joined, table, text
from bn_audit.reporters._web.size_chart import size_chart
from bn_audit.reporters._words import MODE_WORDS, plural
from bn_audit.subject.norm import Mode, NormLayer
from bn_audit.subject.observation import CANNOT_RUN, CONTENT, INDEPENDENT, Observation, SizeResult
from bn_audit.subject.report import Report

KINDS = {CANNOT_RUN: "error", CONTENT: "error", INDEPENDENT: "good"}
"""Of the verdict's badge; the rest are warnings."""

ROWS = 400
"""Batch sizes or norm layers in one table; the JSON report has all."""

FEW = 24
"""Norm layers that are shown without a click."""


def observation_sections(report: Report) -> Iterator[Markup]:
    """Yield the sections; none where the model was not run."""
    observation = report.observation
    if observation is None or is_told_elsewhere(report):
        return
    yield element("h3", text("Run at several batch sizes"))
    yield _verdict(observation)
    yield facts((label, text(sentence)) for label, sentence in evidence(observation))
    scale = log_scale(effects(observation))
    if compared_sizes(observation):
        yield element("div", size_chart(observation, scale), heat_map(observation, scale), kind="charts")
    if observation.sizes:
        yield _sizes(observation)
    norms = [norm for norm in report.norms if norm.model == observation.model]
    if any(layer.effect != 0 for layer in observation.profile):
        yield layer_chart(observation, {name: norm.mode for norm in norms for name in (norm.node, norm.path) if name})
    elif observation.profile:
        apart = f"Samples met in none of {plural(len(observation.profile), 'layer')}."
        yield element("p", text(apart), kind="quiet")
    yield from _norms(norms, observation)
    yield element("h3", text("How it was run"))
    rows = [(label, text(sentence)) for label, sentence in setting(observation)]
    rows += [("versions", text(versions(observation)))] if observation.environment else []
    yield facts(rows)
    if observation.command:
        yield element("p", text("This repeats it exactly:"), kind="quiet")
        yield element("pre", element("code", text(observation.command)), kind="command")


def _verdict(observation: Observation) -> Markup:
    kind = KINDS.get(observation.verdict, "warning")
    if kind == "good" and is_doubtful(observation):
        kind = "warning"
    word = badge(verdict_word(observation), kind)
    told = headline(observation)
    return element("p", word, text(f" {told[:1].upper()}{told[1:]}{'.' if told else ''}"), kind="verdict")


def _sizes(observation: Observation) -> Markup:
    scored = has_class_scores(observation)
    header = ["batch size", "status", "max absolute", "max relative"]
    header += ["changed top-1"] if scored else []
    header += ["time per sample"]
    shown = observation.sizes[:ROWS]
    more = f"{len(observation.sizes) - len(shown)} more batch sizes are in the JSON report"
    rest = element("p", text(more), kind="quiet") if len(shown) < len(observation.sizes) else NOTHING
    rows = (_size(size, scored, size.batch_size == observation.reference_size) for size in shown)
    return joined((table([text(name) for name in header], rows, kind="sizes"), rest))


def _size(size: SizeResult, scored: bool, is_reference: bool) -> Sequence[Markup]:
    word = text(size.status) if size.status == "ok" else badge(size.status, "error")
    told = " (the others are compared with it)" if is_reference else f" {size.error}" if size.error else ""
    status = joined((word, element("span", text(told, 400), kind="quiet") if told else NOTHING), "")
    if is_reference:
        size = replace(size, max_abs=None, max_rel=None, top1_changes=None)
    row = [text(str(size.batch_size)), status, text(effect_text(size.max_abs)), text(effect_text(size.max_rel))]
    row += [text("-" if size.top1_changes is None else str(size.top1_changes))] if scored else []
    return [*row, text(time_text(size))]


def _norms(norms: Sequence[NormLayer], observation: Observation) -> Iterator[Markup]:
    """Yield the table of norm layers; of very many those first that are not plainly in evaluation mode."""
    if not norms:
        return
    moved = {layer.path: layer.effect for layer in observation.profile}
    shown = sorted(range(len(norms)), key=lambda number: norms[number].mode is Mode.EVAL)[:ROWS]
    rows = [_norm(norms[number], moved) for number in sorted(shown)]
    header = [text(name) for name in ("layer", "kind", "mode", "channels", "eps", "momentum")]
    header += [text("divergence")] if moved else []
    listed = table(header, (row if moved else row[:-1] for row in rows), kind="norms")
    count = str(len(norms)) if len(rows) == len(norms) else f"{len(rows)} of {len(norms)}"
    yield folded(text(f"Modes of the norm layers ({count})"), listed, is_open=len(norms) <= FEW)


def _norm(norm: NormLayer, moved: dict[str, float]) -> list[Markup]:
    mode = MODE_WORDS[norm.mode]
    return [
        code(norm.path or norm.node or "(root)"),
        text(norm.kind.value),
        badge(f"{mode}, with the batch's statistics", "error") if norm.uses_batch_statistics else text(mode),
        text("-" if norm.num_features is None else str(norm.num_features)),
        text("-" if norm.eps is None else f"{norm.eps:g}"),
        text("-" if norm.momentum is None else f"{norm.momentum:g}"),
        text(effect_text(moved.get(norm.path))),
    ]
