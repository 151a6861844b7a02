"""Dynamic quantisation takes one activation range for the whole batch.

What it checks: nodes that compute the scale of the activations at run time from all samples together, such as
    DynamicQuantizeLinear and DynamicQuantizeLSTM, in graphs that take more than one sample; and models that a run
    shows to depend on the companions through such a range.
Why it matters: one sample with large activations widens the range for all, so its neighbours are rounded more
    coarsely and their answers move. The effect is about as large as the error of the quantisation itself.
Example:
    from onnxruntime import quantization
    quantization.quantize_dynamic("model.onnx", "quantised.onnx")  # BN405, unless the graph declares a batch of one
Remedy: quantise with static ranges from calibration data, or with one range for each row, or run batches of one; where
    the error is accepted, declare a waiver with its reason.
Limits: a warning, since this is how dynamic quantisation is meant to work. A graph that declares a batch of exactly one
    is silent. Weights that are quantised ahead of time, and activations with stored ranges, are silent. An output
    that couples in other ways too is BN401.
Sources: ONNX operator specification, DynamicQuantizeLinear; microsoft/onnxruntime issue 10111; Anush008/fastembed-rs
    issue 107.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bn_audit.interfaces import Rule
from bn_audit.rules._batch_flow import MARK_CODES, MARK_QUANTISES, MIXES, has_companions
from bn_audit.rules._figures import LISTED
from bn_audit.rules._observed import concerns_graphs_and_runs, observed
from bn_audit.rules.batch._measured import is_quantisation, with_run
from bn_audit.rules.batch._nodes import marked_nodes, nodes_in, shown, where
from bn_audit.rules.batch._outputs import dependent_outputs
from bn_audit.subject.finding import EvidenceValue, Finding, Severity
from bn_audit.subject.run_verdict import CONTENT
from bn_audit.subject.subject import Facts, FlowMark, Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Yield at most one finding for each model."""
    proved = {
        route: [_proved(subject, route, marks)]
        for route, marks in marked_nodes(subject, MARK_QUANTISES).items()
        if has_companions(subject, route)
    }
    run = observed(subject, CONTENT)
    if run is None or not is_quantisation(subject, run):
        for found in proved.values():
            yield from found
        return
    yield from with_run(RULE, subject, proved, CONTENT, "depends on its batch through one range for all activations")


def _proved(subject: Subject, route: str, marks: Sequence[FlowMark]) -> Finding:
    """Return what the proof finds in one model."""
    verb = "takes" if len(marks) == 1 else "take"
    dependent = dependent_outputs(subject, route, MIXES)
    coupled = [item.flow.output for item in dependent if item.code == MARK_CODES[MARK_QUANTISES]]
    outputs: list[EvidenceValue] = [*coupled[:LISTED]]
    return RULE.finding(
        f"{nodes_in(marks, route)} {verb} one activation range for the whole batch: {shown(marks, 'a dynamic range')}",
        locations=where(marks),
        evidence={"nodes": len(marks), "coupled": len(coupled), "outputs": outputs},
    )


RULE = Rule(
    code="BN405",
    name="dynamic-quantisation-couples",
    summary="one activation range for the whole batch",
    severity=Severity.WARNING,
    needs_any=Facts.BATCH_FLOW | Facts.OBSERVATION,
    concerns=concerns_graphs_and_runs,
    check=check,
    remedy="Quantise with static ranges from calibration data or with one range for each row; where "
    "the error is accepted, declare a waiver with its reason.",
)
