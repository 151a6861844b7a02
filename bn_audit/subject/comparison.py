"""How two artifacts align, and what differs between them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from bn_audit.subject.drift import LayerDrift
from bn_audit.subject.finding import Location
from bn_audit.subject.key_alignment import KeyAlignment
from bn_audit.subject.norm import NormLayer
from bn_audit.subject.scope import ValueScope


class PairedBy(Enum):
    """Why two layers are taken for the same one."""

    PATH = "path"
    CONTENTS = "contents"
    """Their names differ and their tensors are equal."""
    NEIGHBOUR = "neighbour"
    """Their names differ and they follow, in either graph or file, what is paired already; the values may differ."""
    FOLD = "fold"
    """The target has no such layer; the layer before it has taken it up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldCheck:
    """Whether a layer was folded into the weight before it as the equations demand.

    ``W' = W * weight / sqrt(var + eps)`` and ``b' = (b - mean) * weight / sqrt(var + eps) + bias``, with weight, bias,
    mean and var of the batch norm and W, b of the layer before it, W' and b' of the other artifact.

    Attributes:
        weight: Name of W.
        into: Name of W'.
        holds: True where both equations hold in every channel; None where nothing could be computed.
        eps: The eps with which the equations were evaluated; None where nothing could be computed.
        eps_inferred: True where the batch norm's artifact records no eps and this one explains the scales best.
        folded_eps: The single eps that explains the scales, where that is another one than the batch norm's and
            everything else holds.
        tolerance: Largest relative deviation that counts as rounding.
        deviation: The largest relative deviation: of the scales, or of the shifts in units of the layer's output.
        channel: Where that is; None where nothing could be computed.
        channels: How many channels deviate by more than the tolerance.
        part: ``scale`` or ``shift``: which equation deviates most; ``direction``: W' is no multiple of W.
        why: One clause for the user: what does not hold, or why nothing could be computed.
    """

    weight: str
    into: str
    holds: bool | None
    eps: float | None = None
    eps_inferred: bool = False
    folded_eps: float | None = None
    tolerance: float = 0.0
    deviation: float = 0.0
    channel: int | None = None
    channels: int = 0
    part: str = "scale"
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPair:
    """One norm layer and what became of it on the other side.

    Attributes:
        reference: None where the reference has folded what the target has as a layer.
        target: None where the target has folded it, or lacks it.
        paired_by: Why they are taken for the same; None where the target lacks the layer.
        fold: The check of the fold, where `paired_by` is ``FOLD``.
    """

    reference: NormLayer | None
    target: NormLayer | None
    paired_by: PairedBy | None
    fold: FoldCheck | None = None

    @property
    def path(self) -> str:
        """The layer's path, in the reference where it has one."""
        layer = self.reference or self.target
        return layer.path if layer is not None else ""

    @property
    def location(self) -> Location:
        """Where a finding about this layer points: into the target, by the reference's path where it is not there."""
        if self.target is not None:
            return self.target.location
        return Location(path=self.path, tensor=self.fold.into if self.fold is not None else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueMismatch:
    """One tensor outside the norm layers whose values differ by more than the tolerance.

    Attributes:
        size: Largest |difference| / largest |element| of the reference's tensor.
        index: Flat row-major index of the largest difference.
        channel: Index along the first dimension of the largest difference.
        beyond: How many elements differ by more than the tolerance.
    """

    reference: str
    target: str
    size: float
    index: int
    channel: int
    reference_value: float
    target_value: float
    beyond: int
    tolerance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NotCompared:
    """Something that no statement is made about: what, and why.

    Attributes:
        by_choice: Nobody asked for it: the scope of the comparison leaves it out.
    """

    what: str
    reason: str
    by_choice: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueComparison:
    """Which values were compared, beyond the norm layers of the drift table.

    Attributes:
        scope: What was asked for.
        compared: Names in the target of the tensors whose every element was compared.
        elements: How many elements these have.
        mismatched: Those that differ.
        not_compared: What was not, with the reason; never silently dropped.
    """

    scope: ValueScope
    compared: tuple[str, ...] = ()
    elements: int = 0
    mismatched: tuple[ValueMismatch, ...] = ()
    not_compared: tuple[NotCompared, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPair:
    """One model of each side that are compared.

    Attributes:
        reference: Route within the reference.
        target: Route within the target.
        reference_averaged: The reference's model is marked as an average (EMA, SWA, teacher).
        target_averaged: Likewise for the target's.
    """

    reference: str
    target: str
    reference_averaged: bool = False
    target_averaged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenPattern:
    """A pattern of layers that a run claims to keep frozen, and what it matches.

    Attributes:
        pattern: A glob over dotted paths; it also matches everything below the paths that it matches.
        layers: Batch norms of the target that it matches.
        tensors: Names of the target's tensors that it matches, those of batch norms included.
    """

    pattern: str
    layers: tuple[Location, ...] = ()
    tensors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A target beside its reference.

    Attributes:
        reference: The reference as the user named it.
        reference_format: Name of the format that read it.
        target: The target as the user named it.
        models: Which models were compared.
        pairs: One for each norm layer of the reference's compared models, in the reference's order; then one for each
            layer of the target that the reference has folded.
        added: Norm layers of the target's compared models that no layer of the reference is paired with.
        keys: One for each pair of models whose names can be compared; a graph without the names has none.
        drift: One for each pair with a layer on both sides, in that order.
        values: What else was compared, and what was not.
        reference_size_bytes: Size of the reference; 0 for a live module.
        reference_bytes_read: Bytes of it that the comparison read.
        remarks: How either side came to be read, where that is not the plain way; one sentence each.
    """

    reference: str
    reference_format: str
    target: str
    models: tuple[ModelPair, ...]
    pairs: tuple[LayerPair, ...]
    added: tuple[NormLayer, ...]
    keys: tuple[KeyAlignment, ...]
    drift: tuple[LayerDrift, ...]
    values: ValueComparison
    reference_size_bytes: int = 0
    reference_bytes_read: int = 0
    remarks: tuple[str, ...] = ()

    def detached(self) -> Comparison:
        """Return the same comparison with tensors that no longer load, as it travels between processes."""
        pairs = tuple(
            replace(
                pair,
                reference=pair.reference.detached() if pair.reference is not None else None,
                target=pair.target.detached() if pair.target is not None else None,
            )
            for pair in self.pairs
        )
        return replace(self, pairs=pairs, added=tuple(norm.detached() for norm in self.added))
