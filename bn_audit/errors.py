"""The exceptions of bn-audit: one class per cause that a caller can act on.

    BnAuditError
    ├── UsageError                  the call is wrong: a bad option, an unknown rule code (exit code 2)
    ├── ArtifactError               something asked for could not be audited (exit code 3)
    │   ├── MissingTargetError      nothing is there, or it cannot be opened
    │   ├── UnknownFormatError      the bytes are of no format that is known here
    │   ├── UnsupportedFormatError  recognised and named, but not read
    │   ├── AmbiguousFormatError    two formats match: a file that is both is an attack or an accident
    │   ├── MalformedFileError      truncated, inconsistent or impossible
    │   ├── LimitExceededError      larger or deeper than this tool is willing to read
    │   ├── NoModelError            readable, but there is no model in it: optimizer state, a tokenizer
    │   ├── TensorUnavailableError  a tensor has no bytes in the artifact (meta device, missing shard)
    │   ├── UnrelatedError          two artifacts that have nothing in common cannot be compared
    │   ├── FactoryError            a factory or module given to the audit did not give a model
    │   └── RunError                the model could not be run, or fails on a batch
    │       └── UnsupportedRunError the backend cannot run it in this way
    ├── PluginError                 a plugin file breaks the contract of its folder: a fault of ours
    ├── FindingsError               raised on request by ``Report.raise_for_findings()``
    └── BatchStatisticsError        a guarded model normalised with the batch, or moved running statistics

    UserWarning
    └── BatchStatisticsWarning      the same, where the guard only warns

Every message has three parts: which file or layer, what is wrong with the actual value, what to do.
"""


class BnAuditError(Exception):
    """Anything that bn-audit raises on purpose."""


class UsageError(BnAuditError):
    """The call itself is wrong; nothing was audited."""


class ArtifactError(BnAuditError):
    """Something that was asked for could not be audited."""


class MissingTargetError(ArtifactError):
    """The target does not exist or cannot be opened."""


class UnknownFormatError(ArtifactError):
    """The content is of no format that this tool knows."""


class UnsupportedFormatError(ArtifactError):
    """The format is recognised, but this tool does not read it."""


class AmbiguousFormatError(ArtifactError):
    """Two formats match the same content."""


class MalformedFileError(ArtifactError):
    """The content contradicts its own format: truncated, inconsistent or impossible."""


class LimitExceededError(ArtifactError):
    """The content is larger or deeper than this tool is willing to read."""


class NoModelError(ArtifactError):
    """The content can be read, but holds no model."""


class TensorUnavailableError(ArtifactError):
    """A tensor has no bytes in the artifact."""


class UnrelatedError(ArtifactError):
    """Two artifacts have no tensor and no layer in common."""


class FactoryError(ArtifactError):
    """A factory could not be imported, failed, or did not return a model."""


class RunError(ArtifactError):
    """A model could not be loaded for running, or fails on a batch."""


class UnsupportedRunError(RunError):
    """The backend cannot run the model in the way that was asked for; another one, or another way, may."""


class PluginError(BnAuditError):
    """A plugin file breaks the contract of its folder."""


class FindingsError(BnAuditError):
    """The audit found something at or above the requested level."""


class BatchStatisticsError(BnAuditError):
    """A layer of a guarded model normalised with the batch, or moved its running statistics.

    Attributes:
        layers: Module paths; ``""`` for the model itself, none for a call outside of any module.
    """

    def __init__(self, message: str, layers: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.layers = layers


class BatchStatisticsWarning(UserWarning):
    """The same as `BatchStatisticsError`, where the guard is told to warn."""
