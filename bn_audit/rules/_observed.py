"""What a run of the model showed, as findings state it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from bn_audit.rules._batch_flow import concerns_graphs, layer_code
from bn_audit.rules._figures import LISTED, figure, readable
from bn_audit.rules._layers import ONNX_ORIGINS
from bn_audit.rules.mode._flags import is_evaluating, is_training
from bn_audit.subject.design import Design
from bn_audit.subject.effect import share_text
from bn_audit.subject.finding import EvidenceValue, Location, Severity
from bn_audit.subject.norm import NormLayer
from bn_audit.subject.run_verdict import CONTENT, INCONCLUSIVE, INDEPENDENT, POSITION, RNG, SIZE, STATEFUL
from bn_audit.subject.subject import Facts, Subject

if TYPE_CHECKING:
    from bn_audit.subject.observation import Observation, Place

NEAR_FLOOR = 3.0
"""An effect below three times the noise floor is a note.

The floor is ten times the answer's response to a change of the input by one unit in the last place; thirty times is
still below anything that a user of the model's own precision can notice.
"""

SMALL_EFFECT = 0.01
"""An effect up to one hundredth of a sample's largest output is a warning, unless it changes a best class."""

SPOKEN_FOR_BY_BN507 = ("BN101", "BN309")
"""The rules in whose place BN507 speaks where Monte-Carlo dropout is declared."""

COUNTER = "num_batches_tracked"

LONGEST_ERROR = 200


def was_run(subject: Subject) -> bool:
    """Return whether the model was run and measured; what prevented a run is reported by the run itself."""
    return Facts.OBSERVATION in subject.facts and subject.observation is not None


def concerns_graphs_and_runs(subject: Subject) -> bool:
    """Return whether there is a graph to follow or a run to look at."""
    return concerns_graphs(subject) or was_run(subject)


def observed(subject: Subject, *verdicts: str) -> Observation | None:
    """Return what the run showed; None where there was none, or none with one of these verdicts (any without)."""
    run = subject.observation if was_run(subject) else None
    return run if run is not None and (not verdicts or run.verdict in verdicts) else None


def is_decided(run: Observation) -> bool:
    """Return whether the run tells what the answers depend on."""
    return run.verdict in (INDEPENDENT, CONTENT, POSITION, SIZE)


def undecided(subject: Subject) -> str:
    """Return why a run decided nothing, as a reason for not checked; ``""`` where it did or there was none."""
    run = observed(subject, INCONCLUSIVE)
    return f"a run decided nothing: {shortened(run.why)}" if run is not None else ""


def shortened(error: str) -> str:
    """Return an error on one line, short enough for a message."""
    line = " ".join(error.split()).rstrip(". ")
    return (line if len(line) <= LONGEST_ERROR else f"{line[:LONGEST_ERROR]} [cut]") or "no reason was given"


def quoted(names: Sequence[str]) -> str:
    """Return the first names, as a message lists them."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(f"'{name}'" for name in names[:3]) + more


def locations(run: Observation, *places: Place | None) -> tuple[Location, ...]:
    """Return where a finding about places of the running model points: each once, in their order; none for no place."""
    told = (place for place in places if place is not None)
    return tuple(dict.fromkeys(Location(model=run.model, path=place.path, node=place.node) for place in told))


def named(place: Place) -> str:
    """Return a place as a message names it, such as ``'layer1.bn' (BatchNorm2d, aten.native_batch_norm)``."""
    name = f"'{place.path or place.node}'" if place.path or place.node else "the model's own code"
    kind = ", ".join(part for part in (place.type_name.rpartition(".")[2], place.op) if part)
    return f"{name} ({kind})" if kind else name


def apart(places: Iterable[Place]) -> list[Place]:
    """Return the first place of each layer or node, in their order."""
    found: dict[tuple[str, str | None], Place] = {}
    for place in places:
        found.setdefault((place.path, place.node), place)
    return list(found.values())


def listed(places: Iterable[Place]) -> str:
    """Return the first places, as a message names them."""
    different = list(dict.fromkeys(map(named, apart(places))))
    more = f" and {len(different) - 3} more" if len(different) > 3 else ""
    return ", ".join(different[:3]) + more


def share(effect: float) -> str:
    """Return an effect as a part of a sample's largest output, such as ``12%``, or ``3.2e-07`` where it is tiny."""
    return "beyond any measure" if effect == float("inf") else share_text(effect)


def by_how_much(run: Observation) -> str:
    """Return the effect beside the noise floor, as a clause; ``""`` where neither is known."""
    if run.effect is None:
        return ""
    amount = f"by up to {share(run.effect)} of its largest output"
    if run.effect == float("inf"):
        amount = "beyond any measure"
    elif run.noise_floor:
        amount += f", {readable(run.effect / run.noise_floor)} times the noise floor"
    return amount


def changes_best_class(run: Observation) -> bool:
    """Return whether some sample has another best class."""
    return any(output.top1_changes for output in run.outputs) or any(size.top1_changes for size in run.sizes)


def small_effect(run: Observation) -> Severity | None:
    """Return the severity of a real but tiny effect; None where the rule's own stands."""
    if run.effect is None or changes_best_class(run):
        return None
    if run.noise_floor is not None and run.effect < NEAR_FLOOR * run.noise_floor:
        return Severity.NOTE
    return Severity.WARNING if run.effect <= SMALL_EFFECT else None


def batch_norm_at(subject: Subject, run: Observation, place: Place | None) -> NormLayer | None:
    """Return the batch norm at a place, if the artifact says that it uses the batch's statistics."""
    if place is None:
        return None
    for norm in subject.norms:
        if norm.model == run.model and norm.kind.is_batch_norm and norm.uses_batch_statistics is True:
            same_path = place.path != "" and place.path in (norm.path, *norm.aliases)
            if same_path or (place.node is not None and place.node == norm.node):
                return norm
    return None


def reporter_of(subject: Subject, norm: NormLayer) -> str | None:
    """Return the code of the rule that speaks of a layer which uses the batch's statistics, whichever supersedes."""
    code = layer_code(norm)
    if Design.MC_DROPOUT in subject.declared and code in SPOKEN_FOR_BY_BN507:
        return "BN507"
    siblings = [other for other in subject.batch_norms if other.model == norm.model and other.registered]
    mixed = any(map(is_evaluating, siblings)) and any(map(is_training, siblings))
    return "BN102" if code == "BN101" and mixed else code


def cause(subject: Subject, run: Observation) -> str | None:
    """Return the code of the rule that reports the layer at which samples first meet; None where none does."""
    layer = batch_norm_at(subject, run, run.first_divergence)
    return reporter_of(subject, layer) if layer is not None else None


def likely_cause(subject: Subject, run: Observation) -> str | None:
    """Return the code of the rule that reports batch norms using the batch's statistics, where no place is known."""
    if run.first_divergence is not None:
        return None
    layers = (norm for norm in subject.batch_norms if norm.model == run.model and norm.uses_batch_statistics is True)
    return next((code for layer in layers if (code := reporter_of(subject, layer)) is not None), None)


def is_declared_otherwise(subject: Subject, run: Observation) -> bool:
    """Return whether samples first meet in a batch norm that the artifact says to use its running statistics."""
    place = run.first_divergence
    return place is not None and any(
        norm.model == run.model and norm.uses_batch_statistics is False and place.path in (norm.path, *norm.aliases)
        for norm in subject.batch_norms
        if place.path
    )


def causes_of_randomness(subject: Subject, run: Observation) -> list[str]:
    """Return the codes of the rules that tell why the same batch gives different answers."""
    codes = []
    live = [call for call in subject.random_calls if call.model == run.model and call.live is True]
    if RNG in run.flags and live:
        codes.append("BN504")
    if RNG in run.flags and run.ungated_dropout:
        codes.append("BN502")
    if STATEFUL in run.flags:
        codes += ["BN307"] if overwritten(subject, run) else []
        codes += ["BN105"] if changed_statistics(subject, run) else []
        codes += ["BN505"] if other_changes(subject, run) else []
    return codes


def overwritten(subject: Subject, run: Observation) -> tuple[str, ...]:
    """Return the tensors that the runtime of a graph overwrites although it stores them as constants."""
    onnx = any(norm.model == run.model and norm.mode_origin in ONNX_ORIGINS for norm in subject.norms)
    return run.drifting if onnx else ()


def changed_statistics(subject: Subject, run: Observation) -> list[str]:
    """Return the running statistics that a run changed although their layer is not declared to be in training mode."""
    declared = {
        name
        for norm in subject.norms
        if norm.model == run.model and norm.uses_batch_statistics is True
        for name in _names(norm)
    }
    known = {*declared, *overwritten(subject, run)}
    return [name for name in run.norm_buffers_changed if name not in known]


def _names(norm: NormLayer) -> list[str]:
    paths = [norm.path, *norm.aliases]
    stored = [ref.name for ref in (norm.running_mean, norm.running_var, norm.num_batches_tracked) if ref is not None]
    plain = ("running_mean", "running_var", COUNTER)
    return [*stored, *(f"{path}.{name}" if path else name for path in paths for name in plain)]


def other_changes(subject: Subject, run: Observation) -> list[str]:
    """Return the stored tensors beside running statistics and their counters that a run changed."""
    statistics = {*run.norm_buffers_changed, *overwritten(subject, run)}
    owners = {name.rpartition(".")[0] for name in run.norm_buffers_changed}
    return [
        name
        for name in run.buffers_changed
        if name not in statistics and not (name.endswith(COUNTER) and name.rpartition(".")[0] in owners)
    ]


def figures(run: Observation) -> dict[str, EvidenceValue]:
    """Return what stands behind a finding about a run."""
    sizes: list[EvidenceValue] = [
        {
            "batch_size": size.batch_size,
            "status": size.status,
            "max_rel": None if size.max_rel is None else figure(size.max_rel),
        }
        for size in run.sizes[:LISTED]
    ]
    return {
        "verdict": run.verdict,
        "runner": run.runner,
        "tier": run.tier,
        "effect": None if run.effect is None else figure(run.effect),
        "noise_floor": None if run.noise_floor is None else figure(run.noise_floor),
        "first": None if run.first_divergence is None else named(run.first_divergence),
        "restored_by": [*run.restored_by[:LISTED]],
        "best_class_changes": changes_best_class(run),
        "batch_sizes": sizes,
    }
