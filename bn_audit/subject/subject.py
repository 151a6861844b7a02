"""One artifact as the rules see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, Flag, auto
from typing import TYPE_CHECKING

from bn_audit.subject.finding import Confidence, Location
from bn_audit.subject.norm import Mode, NormKind, NormLayer
from bn_audit.subject.tensor import TensorRef

if TYPE_CHECKING:
    from bn_audit.subject.comparison import Comparison, FrozenPattern
    from bn_audit.subject.design import Design
    from bn_audit.subject.graph import Graph  # most artifacts have none
    from bn_audit.subject.key_alignment import KeyAlignment
    from bn_audit.subject.observation import Observation
    from bn_audit.subject.weighted import WeightedLayer


class Facts(Flag):
    """What an artifact can tell; a rule states which of these it needs."""

    NONE = 0
    MODES = auto()
    """The mode of each layer is recorded."""
    REGISTRY = auto()
    """The module tree is complete, including what hangs in plain lists and dicts outside it."""
    SETTINGS = auto()
    """eps, momentum and the flags of the layers are recorded."""
    VALUES = auto()
    """The tensors' bytes can be read."""
    GRADIENTS = auto()
    """``requires_grad`` of the parameters is recorded."""
    GRAPH = auto()
    """The operators that will run are recorded, with their constant arguments."""
    BATCH_FLOW = auto()
    """The batch flow of the graph was followed."""
    REFERENCE = auto()
    """A second artifact to compare with was given."""
    OBSERVATION = auto()
    """The model was run and measured."""


FACT_REASONS: dict[Facts, str] = {
    Facts.MODES: "the artifact records no train/eval mode",
    Facts.REGISTRY: "the artifact records no module tree",
    Facts.SETTINGS: "the artifact records no eps, momentum or flags",
    Facts.VALUES: "the artifact holds no tensor values",
    Facts.GRADIENTS: "the artifact does not record requires_grad",
    Facts.GRAPH: "the artifact records no operators",
    Facts.BATCH_FLOW: "the batch flow was not followed",
    Facts.REFERENCE: "no reference was given to compare with",
    Facts.OBSERVATION: "the model was not run",
}
"""Why a rule was not checked, for each fact that an artifact may lack."""


class Form(Enum):
    """How a model is stored."""

    MODULE = "module"
    STATE_DICT = "state-dict"
    GRAPH = "graph"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleNode:
    """One module of a module tree.

    Attributes:
        path: Dotted path within the model; ``""`` for its root.
        training: The stored flag; None where the artifact keeps none.
    """

    path: str
    type_name: str
    training: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model of an artifact.

    Attributes:
        route: Key path of the model within the artifact, such as ``state.model``; ``""`` at the top.
        type_name: Qualified class name of its root; None where the artifact does not say.
        mode: The root's own flag; it proves nothing about the layers below.
        modules: The module tree, parents before children; empty for a state dict.
        tensors: Every parameter and buffer by name, headers only, as a state dict of the model has them: without
            buffers that are not saved, and under each name of a module that is registered more than once.
        averaged: True where the artifact marks the model as an average of another (EMA, SWA, teacher).
        takes_gradients: Whether any parameter of the model has ``requires_grad``; None where not recorded.
    """

    route: str
    form: Form
    type_name: str | None = None
    mode: Mode = Mode.UNKNOWN
    modules: tuple[ModuleNode, ...] = ()
    tensors: tuple[TensorRef, ...] = ()
    averaged: bool = False
    takes_gradients: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomCall:
    """A call in a graph that draws random numbers when the artifact runs.

    Attributes:
        op: The operator, such as ``aten.dropout.default``.
        is_dropout: True for every kind of dropout, False for other sources of randomness.
        probability: Probability of zeroing an element; None where it is no dropout or not constant.
        live: True where it draws in inference as the artifact is; False where it is switched off; None: decided at run
            time by the module's flag.
    """

    model: str
    path: str
    node: str
    op: str
    is_dropout: bool
    probability: float | None
    live: bool | None

    @property
    def location(self) -> Location:
        """Where a finding about this call points."""
        return Location(model=self.model, path=self.path, node=self.node)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrphanTensors:
    """Affine parameters in a state dict that lack the running statistics of a batch norm.

    Attributes:
        path: Module path of the parameters.
        weight: Shape (C,).
        bias: Shape (C,) or None.
        evidence: Why it is taken for a batch norm; None where it may as well be a layer, group or instance norm.
        confidence: How much that evidence proves.
    """

    model: str
    path: str
    weight: TensorRef
    bias: TensorRef | None
    evidence: str | None
    confidence: Confidence = Confidence.HIGH

    @property
    def location(self) -> Location:
        """Where a finding about these parameters points."""
        return Location(model=self.model, path=self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFlow:
    """Whether the rows of one output of a graph depend on other rows, as proved without running the model.

    Attributes:
        output: Name of the output.
        verdict: ``independent`` (for finite inputs), ``mixes`` (a row depends on other rows), ``position`` (on its
            index), ``size`` (on the number of rows) or ``undecided``.
        node: The node that decides the verdict; None for ``independent``.
        path: Module path of that node; ``""`` where not recorded.
        why: One clause for the user: the operator and what it does, or what could not be decided.
    """

    model: str
    output: str
    verdict: str
    node: str | None = None
    path: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowMark:
    """A node at which samples meet, or a batch size is fixed, whether or not it reaches an output.

    Attributes:
        kind: ``mixes``, ``quantises`` (one activation range for the whole batch), ``fixed-batch``, ``position`` or
            ``size``.
        why: One clause: the operator and what it does.
    """

    model: str
    kind: str
    node: str
    path: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True, weakref_slot=True, kw_only=True)
class Subject:
    """One artifact, read; weakly referable, so that what is derived from it can be kept for as long as it lives.

    Attributes:
        source: The target as the user named it.
        format: Name of the format that read it.
        facts: What this artifact can tell.
        models: Every model found, in the artifact's order.
        norms: Every normalisation layer of every model.
        orphans: Affine parameters without statistics, from state dicts.
        weighted: Convolutions and linear layers whose tensors have no module's names, from graphs.
        random_calls: Dropout and other random operators, from graphs.
        graphs: The operators of each model by its route, where the artifact records them.
        batch_flow: One verdict for each output of each graph; empty where the proof was not asked for.
        flow_marks: The nodes that the proof found remarkable.
        loading: How the weights fitted, where weights were loaded into a factory's model: the model is the reference.
        observation: What the model did when it was run, where that was asked for and possible.
        comparison: This artifact beside its reference, where one was given.
        frozen: The layers that the run claims to keep frozen, one entry for each pattern given.
        declared: The designs that waivers declare for it.
        has_optimizer_state: True where optimizer state lies beside the model: a training checkpoint.
        unread: What was seen and not read, one reason each; never silently dropped.
        remarks: How it came to be read, where that is not the plain way; one sentence each.
    """

    source: str
    format: str
    facts: Facts
    models: tuple[Model, ...]
    norms: tuple[NormLayer, ...]
    orphans: tuple[OrphanTensors, ...] = ()
    weighted: tuple[WeightedLayer, ...] = ()
    random_calls: tuple[RandomCall, ...] = ()
    graphs: Mapping[str, Graph] = field(default_factory=dict)
    batch_flow: tuple[OutputFlow, ...] = ()
    flow_marks: tuple[FlowMark, ...] = ()
    loading: KeyAlignment | None = None
    observation: Observation | None = None
    comparison: Comparison | None = None
    frozen: tuple[FrozenPattern, ...] = ()
    declared: frozenset[Design] = frozenset()
    has_optimizer_state: bool = False
    unread: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def batch_norms(self) -> tuple[NormLayer, ...]:
        """The layers whose training mode means statistics over the batch."""
        return tuple(norm for norm in self.norms if norm.kind.is_batch_norm)

    def norms_of(self, model: Model, *kinds: NormKind) -> tuple[NormLayer, ...]:
        """Return the layers of one model, of the given kinds or of any."""
        return tuple(norm for norm in self.norms if norm.model == model.route and (not kinds or norm.kind in kinds))
