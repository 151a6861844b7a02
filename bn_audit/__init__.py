"""bn-audit: will this model give the same answer for the same sample, whoever else is in the batch?

`check` audits one artifact and returns a `Report`; nothing in a file is executed.

    >>> import bn_audit
    >>> report = bn_audit.check("model.pt")
    >>> report.raise_for_findings()
"""

from bn_audit.audit import Options, check, run
from bn_audit.errors import (
    AmbiguousFormatError,
    ArtifactError,
    BnAuditError,
    FactoryError,
    FindingsError,
    LimitExceededError,
    MalformedFileError,
    MissingTargetError,
    NoModelError,
    PluginError,
    TensorUnavailableError,
    UnknownFormatError,
    UnsupportedFormatError,
    UsageError,
)
from bn_audit.subject.finding import Confidence, Finding, Intent, Location, Severity
from bn_audit.subject.norm import Mode, NormKind, NormLayer
from bn_audit.subject.report import Audit, Failed, Report, Skipped
from bn_audit.subject.tensor import TensorRef

__all__ = [
    "AmbiguousFormatError",
    "ArtifactError",
    "Audit",
    "BnAuditError",
    "Confidence",
    "FactoryError",
    "Failed",
    "Finding",
    "FindingsError",
    "Intent",
    "LimitExceededError",
    "Location",
    "MalformedFileError",
    "MissingTargetError",
    "Mode",
    "NoModelError",
    "NormKind",
    "NormLayer",
    "Options",
    "PluginError",
    "Report",
    "Severity",
    "Skipped",
    "TensorRef",
    "TensorUnavailableError",
    "UnknownFormatError",
    "UnsupportedFormatError",
    "UsageError",
    "check",
    "run",
]
