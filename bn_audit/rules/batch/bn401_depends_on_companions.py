"""The answer for a sample depends on the other samples of its batch.

What it checks: every output of a graph by the proof of the batch flow, which follows the samples through all operators
    without running the model, and, where the model was run, whether an answer moves when only the other samples are
    exchanged. It fires where either shows a dependence; where both do, it is one finding.
Why it matters: the same sample gets another answer in other company. Tests with fixed batches do not show it, a
    padded or partly filled batch changes results, and nobody can reproduce a single answer.
Example:
    import torch
    from torch import nn
    class Net(nn.Module):
        def forward(self, x):
            return (x - x.mean(dim=0)) / x.std(dim=0)  # statistics of the batch: BN401
    class Fine(nn.Module):
        def forward(self, x):
            return (x - x.mean(dim=1, keepdim=True)) / x.std(dim=1, keepdim=True)  # of each sample: silent
    shapes = {"x": {0: torch.export.Dim("batch")}}
    program = torch.export.export(Net(), (torch.randn(4, 8),), dynamic_shapes=shapes)
Remedy: repair the node that is named: reduce, normalise, compare and reshape within each sample. Where a batch norm is
    the cause, its own finding says how.
Limits: the proof holds for finite inputs and takes the first axis of every input for the batch. A run shows what its
    inputs reach, at its batch sizes; where it sees a dependence that the proof does not, it counts, and where it does
    not see one that is proved the finding says so. An effect below three times the noise floor is a note, up to one
    hundredth of a sample's largest output a warning, unless a best class changes. A graph that declares a batch of
    exactly one is silent. Outputs that couple through dynamic quantisation alone are BN405. Where an operator cannot
    be followed and no run decides, the output is reported as not checked. Models that compare samples on purpose
    (contrastive scores, ranking) are found as well: declare a waiver with its reason. Replaces BN404 to BN407 at the
    same place and keeps their code as the cause in its evidence.
Sources: Ioffe and Szegedy 2015, section 3.1; NVlabs/GCVit issue 10; soumith/dcgan.torch issue 19.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._batch_flow import MARK_CODES, MARK_QUANTISES, MIXES, outputs_by_model
from bn_audit.rules._observed import concerns_graphs_and_runs, observed
from bn_audit.rules.batch._measured import is_quantisation, still_open, with_run
from bn_audit.rules.batch._outputs import Dependence, dependent_outputs, figures, statement
from bn_audit.subject.finding import Confidence, Finding, Severity
from bn_audit.subject.run_verdict import CONTENT
from bn_audit.subject.subject import Facts, Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one finding for each model and kind of cause."""
    proved = {route: list(_proved(subject, route)) for route in outputs_by_model(subject)}
    run = observed(subject)
    if run is not None and is_quantisation(subject, run) and not proved.get(run.model):
        return
    yield from with_run(RULE, subject, proved, CONTENT, "depends on the other samples of its batch")


def _proved(subject: Subject, route: str) -> Iterator[Finding]:
    """Yield what the proof finds in one model, one finding for each kind of cause."""
    total = len(outputs_by_model(subject)[route])
    marks = [mark for mark in subject.flow_marks if mark.model == route and mark.kind in MARK_CODES]
    causes: dict[tuple[str | None, bool], list[Dependence]] = {}
    for found in dependent_outputs(subject, route, MIXES):
        if found.code != MARK_CODES[MARK_QUANTISES]:
            causes.setdefault((found.code, found.place is found.flow), []).append(found)
    for (code, is_certain), group in causes.items():
        see = f" (see {code})" if group[0].is_layer else ""
        verb = ("depends on the other samples of the batch", "depend on the other samples of the batch")
        message = statement(group, total, verb, route=route, otherwise="samples meet")
        yield RULE.finding(
            f"{message}{see}",
            locations=tuple(item.location for item in group),
            evidence=figures(group, total, marks),
            remedy=f"Repair the batch norm that {code} reports." if group[0].is_layer else None,
            confidence=Confidence.HIGH if is_certain else Confidence.MEDIUM,
        )


RULE = Rule(
    code="BN401",
    name="depends-on-companions",
    summary="an output row depends on the other rows of the batch",
    severity=Severity.ERROR,
    supersedes=("BN404", "BN405", "BN406", "BN407"),
    needs_any=Facts.BATCH_FLOW | Facts.OBSERVATION,
    concerns=concerns_graphs_and_runs,
    check=check,
    open_questions=still_open,
    remedy="Repair the node that is named: reduce, normalise, compare and reshape within each sample, not over the "
    "batch axis.",
)
