"""From figures to an observation: what the model's answers depend on, how much, and what was not decided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from bn_audit.experiments._comparing import largest_effect
from bn_audit.experiments._results import (
    Confirmation,
    Counts,
    Drift,
    ModeGap,
    Noise,
    Optimisation,
    Padding,
    Position,
    Reference,
    Repeat,
    Restoration,
    Sizes,
    Swaps,
    Where,
    axes_from,
    found,
    is_random,
)
from bn_audit.experiments._rounding import RESPONSES, SMALLEST_STEP
from bn_audit.measuring.tabulation import input_rows, output_rows, size_rows
from bn_audit.running import Figures, Plan, Session
from bn_audit.subject import observation as words
from bn_audit.subject.observation import Observation, Place, SizeResult
from bn_audit.subject.run import Calls, Job


def judged(job: Job, session: Session, plan: Plan, figures: Mapping[str, Figures]) -> Observation:
    """Return the observation that the figures of all experiments make."""
    reference = found(figures, Reference)
    sizes = size_rows(job, figures)
    verdict, why, effect = _verdict(figures, sizes)
    plain = Observation(
        model=job.route,
        runner=session.runner,
        device=job.device,
        dtype=session.dtype,
        threads=session.threads,
        seed=job.seed,
        tier=job.tier,
        verdict=verdict,
        why=why,
        flags=tuple(_flags(figures)),
        effect=effect,
        noise_floor=_floor(session, figures),
        sizes=sizes,
        outputs=output_rows(figures),
        inputs=input_rows(plan),
        reference_size=reference.batch_size if reference else None,
        fixed_batch=_fixed(session, plan),
        environment=dict(session.environment),
        remarks=(*session.remarks, *_remarks(figures)),
    )
    return _with_doubts(_with_places(_with_effects(plain, session, figures), figures), figures)


def _fixed(session: Session, plan: Plan) -> int | None:
    return session.fixed_batch if session.fixed_batch is not None else plan.fixed_batch


def _verdict(figures: Mapping[str, Figures], sizes: tuple[SizeResult, ...]) -> tuple[str, str, float | None]:
    """Return the verdict, what it rests on and its effect; content wins over position, position over size."""
    confirmation = found(figures, Confirmation) or Confirmation()
    swaps, position, shown = found(figures, Swaps), found(figures, Position), found(figures, Sizes)
    if swaps is None:
        return words.INCONCLUSIVE, _why_no_companions(figures, shown), None
    if swaps.worst is not None and confirmation.content:
        why = f"row {swaps.worst.index} changes when {swaps.worst.drawn} takes its companions' place"
        return words.CONTENT, f"{why} ({confirmation.how})", swaps.worst.effect
    if swaps.worst is not None and confirmation.content is None:
        why = "other companions change a row, and neither double precision nor the noise floor can tell from what"
        return words.INCONCLUSIVE, why, swaps.worst.effect
    if position is not None and confirmation.position:
        return words.POSITION, "copies of one sample give different answers in different rows", position.effect
    real = [size for size, is_real in confirmation.sizes.items() if is_real]
    if real:
        effect = max((row.max_rel or 0.0 for row in sizes if row.batch_size in real), default=None)
        listed = ", ".join(str(size) for size in sorted(real))
        return words.SIZE, f"the same rows give other answers at batch size {listed}", effect
    return _without_dependence(figures, sizes, confirmation, swaps)


def _without_dependence(
    figures: Mapping[str, Figures], sizes: tuple[SizeResult, ...], confirmation: Confirmation, swaps: Swaps
) -> tuple[str, str, float | None]:
    repeat = found(figures, Repeat)
    failed = [row.batch_size for row in sizes if row.status == "failed" and row.batch_size > 1]
    if repeat is not None and repeat.same_seed:
        return words.INCONCLUSIVE, "equal runs with the same seed give different answers", None
    if failed:
        worked = ", ".join(str(row.batch_size) for row in sizes if row.status == "ok")
        listed = ", ".join(map(str, failed))
        return words.CANNOT_RUN, f"fails at batch size {listed}; independent of companions at {worked}", None
    if None in (confirmation.position, *confirmation.sizes.values()) and not is_random(figures):
        position = found(figures, Position)
        if (position is not None and confirmation.position is None) or None in confirmation.sizes.values():
            return words.INCONCLUSIVE, "differences that neither double precision nor the noise floor explains", None
    how = f"{swaps.tried} exchanges of the companions moved no bit"
    if swaps.worst is not None:
        how = f"{swaps.tried} exchanges of the companions moved nothing beyond floating point"
    if is_random(figures):
        return words.INDEPENDENT, f"{how} under a fixed seed; rows and sizes are not compared, randomness is live", None
    if found(figures, Position) is None:
        return words.INDEPENDENT, f"{how}; the quick tier does not compare positions", None
    return words.INDEPENDENT, how, None


def _why_no_companions(figures: Mapping[str, Figures], sizes: Sizes | None) -> str:
    reference = found(figures, Reference)
    if reference is not None and reference.batch_size == 1:
        return "batch fixed at 1: there are no companions"
    if sizes is not None and not sizes.is_attributable:
        return "no output has an axis that follows the number of samples"
    return "the companions were not exchanged"


def _flags(figures: Mapping[str, Figures]) -> Iterator[str]:
    repeat, reference = found(figures, Repeat), found(figures, Reference)
    if is_random(figures):
        yield words.RNG
    elif repeat is not None and repeat.second_call:
        yield words.STATEFUL
    if reference is not None and reference.changed:
        yield words.MUTATES_STATE


def _floor(session: Session, figures: Mapping[str, Figures]) -> float | None:
    noise = found(figures, Noise)
    if noise is None or noise.response is None or is_random(figures):
        return None
    return RESPONSES * max(noise.response, SMALLEST_STEP.get(session.dtype, SMALLEST_STEP["float32"]))


def _with_effects(plain: Observation, session: Session, figures: Mapping[str, Figures]) -> Observation:
    """Return the observation with what each experiment beside the verdict's found."""
    reference, repeat = found(figures, Reference), found(figures, Repeat)
    gap, optimisation, padding = found(figures, ModeGap), found(figures, Optimisation), found(figures, Padding)
    confirmation, drift = found(figures, Confirmation), found(figures, Drift)
    changed = reference.changed if reference else ()
    is_stateful = words.STATEFUL in plain.flags
    return replace(
        plain,
        buffers_changed=changed,
        norm_buffers_changed=tuple(name for name in changed if name in set(session.state_names)),
        repeat_effect=repeat.same_seed if repeat else None,
        seed_effect=repeat.other_seed if repeat else None,
        second_call_effect=repeat.second_call if repeat and (is_stateful or not repeat.is_random) else None,
        mode_gap=gap.effect if gap else None,
        rounding_only=confirmation.rounding if confirmation else None,
        optimisation_effect=_beyond(optimisation.effect if optimisation else None, plain.noise_floor),
        padding_effect=_beyond(padding.effect if padding else None, plain.noise_floor),
        drifting=drift.tensors if drift else (),
    )


def _beyond(effect: float | None, floor: float | None) -> float | None:
    """Return the effect, 0.0 where floating point explains it, None where it was not measured."""
    if effect is None or (floor is None and effect > 0):
        return None
    return effect if floor is not None and effect > floor else 0.0


def _with_places(plain: Observation, figures: Mapping[str, Figures]) -> Observation:
    """Return the observation with the layers at which samples meet and the calls that were counted."""
    where, counts = found(figures, Where), found(figures, Counts)
    restoration = found(figures, Restoration)
    calls = counts.calls if counts else None
    localisation = where.localisation if where else None
    is_content = plain.verdict == words.CONTENT
    told = replace(
        plain,
        restored_by=restoration.paths if restoration else (),
        norm_calls=calls.norm_calls if calls else None,
        registered_norms=calls.registered if calls else None,
        unregistered_norms=_unregistered(calls) if calls else (),
        ungated_dropout=calls.ungated_dropout if calls else (),
    )
    if localisation is None:
        return told
    first = localisation.first if is_content else None
    return replace(
        told,
        first_divergence=first,
        combined_at=localisation.combined if is_content else None,
        latent=() if is_content else localisation.overlaps,
        profile=localisation.profile,
        quantised_dynamically=is_content and _is_one_of(first, calls.dynamic_ranges if calls else ()),
    )


def _unregistered(calls: Calls) -> tuple[Place, ...]:
    """Return the places outside the registry that use the batch; with statistics of their own they evaluate."""
    return tuple(place for place in calls.unregistered if place in calls.batch_statistics)


def _is_one_of(place: Place | None, places: tuple[Place, ...]) -> bool:
    return place is not None and any((place.path, place.node) == (other.path, other.node) for other in places)


def _with_doubts(plain: Observation, figures: Mapping[str, Figures]) -> Observation:
    """Return the observation without a certificate where the model cannot show a dependence."""
    counts = found(figures, Counts)
    untrained = counts is not None and counts.calls is not None and counts.calls.untrained
    constant = _is_constant(figures)
    lost = tuple(row.batch_size for row in plain.sizes if row.status == "ok" and row.error)
    at_one = next((row.error for row in plain.sizes if row.batch_size == 1 and row.status == "failed"), "")
    told = replace(plain, is_untrained=untrained or constant, lost_at=lost, fails_at_one=at_one)
    if told.verdict != words.INDEPENDENT:
        return told
    if constant:
        return replace(told, verdict=words.INCONCLUSIVE, why="every sample has the same answer: nothing can be seen")
    if untrained:
        why = f"every norm layer holds initial statistics: an untrained model hides mixing; {told.why}"
        return replace(told, verdict=words.INCONCLUSIVE, why=why)
    return told


def _is_constant(figures: Mapping[str, Figures]) -> bool:
    """Return whether all samples of the reference batch have the same answer."""
    reference = found(figures, Reference)
    axes = axes_from(figures)
    if reference is None or reference.batch_size < 2:
        return False
    told = {name: reference.outputs[name] for name, axis in axes.items() if axis is not None}
    repeated = {name: array.take([0] * reference.batch_size, axis=axes[name]) for name, array in told.items()}
    return bool(told) and largest_effect(repeated, told, axes) == 0.0


def _remarks(figures: Mapping[str, Figures]) -> Iterator[str]:
    where, optimisation = found(figures, Where), found(figures, Optimisation)
    unplaced = [name for name, axis in axes_from(figures).items() if axis is None]
    if unplaced and len(unplaced) < len(axes_from(figures)):
        yield f"not judged, since no axis follows the number of samples: output {', '.join(unplaced)}"
    if where is not None and where.why_not:
        yield f"where samples meet could not be followed: {where.why_not}"
    if optimisation is not None and optimisation.removes_randomness:
        yield "the runtime's other form of the model draws no random numbers: it removes live randomness"
