"""The report for machines: ``bn-audit.report.v1``, described by ``report.v1.schema.json`` beside this file.

The format only grows: fields are added, never renamed, retyped or removed. The output is strict JSON in ASCII: a float
that is not finite is written as the string ``"nan"``, ``"inf"`` or ``"-inf"``.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from bn_audit.errors import ArtifactError
from bn_audit.interfaces import Reporter
from bn_audit.reporters._json_values import Json, place, plain
from bn_audit.subject.finding import Finding, Severity
from bn_audit.subject.norm import NormLayer
from bn_audit.subject.report import Audit, Report
from bn_audit.subject.subject import OutputFlow
from bn_audit.subject.tensor import TensorRef
from bn_audit.version import VERSION

if TYPE_CHECKING:
    from bn_audit.subject.waiver import KnownFinding, WaivedFinding, Waiver

SCHEMA_ID = "bn-audit.report.v1"
SCHEMA_PATH = Path(__file__).parent / "report.v1.schema.json"
TENSOR_ROLES = ("weight", "bias", "running_mean", "running_var")


def render(audit: Audit, out: TextIO, colour: bool) -> None:  # noqa: ARG001 - colour has no meaning here
    """Write the audit as one JSON document."""
    out.write(json.dumps(document(audit), indent=2, allow_nan=False) + "\n")


def document(audit: Audit) -> dict[str, Json]:
    """Return the audit as JSON values."""
    return {
        "schema": SCHEMA_ID,
        "tool": {"name": "bn-audit", "version": VERSION},
        "intent": audit.intent.value,
        "fail_on": audit.fail_on.value,
        "settings": audit.settings,
        "reports": [_report(report) for report in audit.reports],
        "listed": [{"source": source, "reason": reason} for source, reason in audit.listed],
        "unused_waivers": [_waiver(waiver) for waiver in audit.unused_waivers],
        "resolved": [_known(item) for item in audit.resolved],
        "summary": _summary(audit),
    }


def _report(report: Report) -> dict[str, Json]:
    return {
        "source": report.source,
        "format": report.format,
        "intent": report.intent.value,
        "size_bytes": report.size_bytes,
        "bytes_read": report.bytes_read,
        "models": [
            {"route": model.route, "form": model.form.value, "type": model.type_name, "mode": model.mode.value}
            for model in report.models
        ],
        "norms": [_norm(norm) for norm in report.norms],
        "findings": [_finding(finding) for finding in report.findings],
        "waived": [_waived(item) for item in report.waived],
        "baselined": [_finding(finding) for finding in report.baselined],
        "skipped": [{"code": skipped.code, "reason": skipped.reason} for skipped in report.skipped],
        "failed": [{"stage": failure.stage, "error": failure.error} for failure in report.failed],
        "unread": list(report.unread),
        "deselected": list(report.deselected),
        "checked": list(report.checked),
        "batch_flow": None if report.batch_flow is None else [_output_flow(flow) for flow in report.batch_flow],
        "flow_seconds": plain(report.flow_seconds),
        "sweep": _sweep(report),
        "reference": None if report.comparison is None else report.comparison.reference,
        "compare": _comparison(report),
        "frozen": [
            {"pattern": item.pattern, "layers": [place(layer) for layer in item.layers], "tensors": list(item.tensors)}
            for item in report.frozen
        ],
    }


def _comparison(report: Report) -> dict[str, Json] | None:
    if report.comparison is None:
        return None
    from bn_audit.reporters._comparison_json import comparison_document  # few runs compare

    return comparison_document(report.comparison)


def _sweep(report: Report) -> dict[str, Json] | None:
    if report.observation is None:
        return None
    from bn_audit.reporters._observation_json import observation_document  # few runs run the model

    return observation_document(report.observation)


def _output_flow(flow: OutputFlow) -> dict[str, Json]:
    return {
        "model": flow.model,
        "output": flow.output,
        "verdict": flow.verdict,
        "node": flow.node,
        "path": flow.path,
        "why": flow.why,
    }


def _norm(norm: NormLayer) -> dict[str, Json]:
    tensors: dict[str, Json] = {}
    for role in TENSOR_ROLES:
        ref = norm.tensors.get(role)
        tensors[role] = None if ref is None else {"name": ref.name, "dtype": ref.dtype, "shape": list(ref.shape)}
    return {
        "model": norm.model,
        "path": norm.path,
        "kind": norm.kind.value,
        "type": norm.type_name,
        "mode": norm.mode.value,
        "uses_batch_statistics": norm.uses_batch_statistics,
        "num_features": norm.num_features,
        "eps": plain(norm.eps),
        "momentum": plain(norm.momentum),
        "affine": norm.affine,
        "track_running_stats": norm.track_running_stats,
        "num_batches_tracked": _counter(norm.num_batches_tracked),
        "tensors": tensors,
    }


def _counter(ref: TensorRef | None) -> int | None:
    """Return the value of the counter; None where there is none or its bytes cannot be had."""
    if ref is None or ref.numel != 1:
        return None
    try:
        value = ref.values()[0]
    except ArtifactError:
        return None
    return int(value) if math.isfinite(value) else None


def _finding(finding: Finding) -> dict[str, Json]:
    return {
        "code": finding.code,
        "name": finding.name,
        "severity": finding.severity.value,
        "confidence": finding.confidence.value,
        "message": finding.message,
        "locations": [place(location) for location in finding.locations],
        "evidence": plain(finding.evidence),
        "remedy": finding.remedy,
    }


def _waived(item: WaivedFinding) -> dict[str, Json]:
    return {
        **_finding(item.finding),
        "reason": item.reason,
        "expires": None if item.expires is None else item.expires.isoformat(),
        "design": None if item.intent is None else item.intent.value,
    }


def _waiver(waiver: Waiver) -> dict[str, Json]:
    return {
        "codes": list(waiver.codes),
        "reason": waiver.reason,
        "path": waiver.path,
        "layer": waiver.layer,
        "expires": None if waiver.expires is None else waiver.expires.isoformat(),
        "design": None if waiver.intent is None else waiver.intent.value,
        "origin": waiver.origin,
    }


def _known(item: KnownFinding) -> dict[str, Json]:
    return {
        "source": item.source,
        "code": item.code,
        "model": item.model,
        "place": item.place,
        "tensor": item.tensor,
    }


def _summary(audit: Audit) -> dict[str, Json]:
    findings = [finding for report in audit.reports for finding in report.findings]
    return {
        "sources": len(audit.reports),
        "errors": sum(finding.severity is Severity.ERROR for finding in findings),
        "warnings": sum(finding.severity is Severity.WARNING for finding in findings),
        "notes": sum(finding.severity is Severity.NOTE for finding in findings),
        "waived": sum(len(report.waived) for report in audit.reports),
        "baselined": sum(len(report.baselined) for report in audit.reports),
        "unused_waivers": len(audit.unused_waivers),
        "resolved": len(audit.resolved),
        "skipped": sum(len(report.skipped) for report in audit.reports),
        "failed": sum(len(report.failed) for report in audit.reports),
        "exit_code": audit.exit_code,
    }


REPORTER = Reporter(name="json", summary=f"for machines ({SCHEMA_ID})", suffixes=(".json",), render=render)
