"""bn-audit: will this model give the same answer for the same sample, whoever else is in the batch?

`check` audits one artifact and returns a `Report`, `compare` compares two; nothing in a file is executed. `sweep` runs
a model and measures what its answers depend on.

    >>> import bn_audit
    >>> report = bn_audit.check("model.pt")
    >>> report.raise_for_findings()
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bn_audit.audit import check, compare, run
    from bn_audit.errors import (
        AmbiguousFormatError,
        ArtifactError,
        BatchStatisticsError,
        BatchStatisticsWarning,
        BnAuditError,
        FactoryError,
        FindingsError,
        LimitExceededError,
        MalformedFileError,
        MissingTargetError,
        NoModelError,
        PluginError,
        RunError,
        TensorUnavailableError,
        UnknownFormatError,
        UnrelatedError,
        UnsupportedFormatError,
        UnsupportedRunError,
        UsageError,
    )
    from bn_audit.live.freezing import FrozenNorms, freeze_bn, unfreeze_bn
    from bn_audit.live.guarding import Violation, guard
    from bn_audit.options import Options
    from bn_audit.repair.changes import Change, Repair
    from bn_audit.repair.fixing import Fixed, fix
    from bn_audit.subject.comparison import Comparison
    from bn_audit.subject.design import Design
    from bn_audit.subject.finding import Confidence, Finding, Intent, Location, Severity
    from bn_audit.subject.norm import Mode, NormKind, NormLayer
    from bn_audit.subject.observation import Observation
    from bn_audit.subject.report import Audit, Failed, Report, Skipped
    from bn_audit.subject.tensor import TensorRef
    from bn_audit.subject.waiver import WaivedFinding, Waiver
    from bn_audit.sweeping import sweep

__all__ = [
    "AmbiguousFormatError",
    "ArtifactError",
    "Audit",
    "BatchStatisticsError",
    "BatchStatisticsWarning",
    "BnAuditError",
    "Change",
    "Comparison",
    "Confidence",
    "Design",
    "FactoryError",
    "Failed",
    "Finding",
    "FindingsError",
    "Fixed",
    "FrozenNorms",
    "Intent",
    "LimitExceededError",
    "Location",
    "MalformedFileError",
    "MissingTargetError",
    "Mode",
    "NoModelError",
    "NormKind",
    "NormLayer",
    "Observation",
    "Options",
    "PluginError",
    "Repair",
    "Report",
    "RunError",
    "Severity",
    "Skipped",
    "TensorRef",
    "TensorUnavailableError",
    "UnknownFormatError",
    "UnrelatedError",
    "UnsupportedFormatError",
    "UnsupportedRunError",
    "UsageError",
    "Violation",
    "WaivedFinding",
    "Waiver",
    "check",
    "compare",
    "fix",
    "freeze_bn",
    "guard",
    "run",
    "sweep",
    "unfreeze_bn",
]

_HOMES = (
    "audit",
    "sweeping",
    "options",
    "errors",
    "subject.comparison",
    "subject.design",
    "subject.finding",
    "subject.norm",
    "subject.observation",
    "subject.report",
    "subject.tensor",
    "subject.waiver",
    "live.guarding",
    "live.freezing",
    "repair.changes",
    "repair.fixing",
)


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for: the command line pays for what it uses."""
    if name in __all__:
        for home in _HOMES:
            module = importlib.import_module(f"bn_audit.{home}")
            if hasattr(module, name):
                value: object = getattr(module, name)
                globals()[name] = value
                return value
    raise AttributeError(f"module 'bn_audit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
