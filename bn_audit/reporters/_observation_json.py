"""The ``sweep`` block of the JSON report."""

from __future__ import annotations

from collections.abc import Iterable

from bn_audit.reporters._json_values import Json, plain
from bn_audit.subject.observation import InputUsed, LayerEffect, Observation, OutputResult, Place, SizeResult


def observation_document(observation: Observation) -> dict[str, Json]:
    """Return what a run of the model showed as JSON values."""
    return {**_run(observation), **_verdict(observation), **_figures(observation), **_places(observation)}


def _run(observation: Observation) -> dict[str, Json]:
    """Return what was run, on what, and how to do it again."""
    return {
        "model": observation.model,
        "runner": observation.runner,
        "device": observation.device,
        "dtype": observation.dtype,
        "threads": observation.threads,
        "seed": observation.seed,
        "tier": observation.tier,
        "forwards": observation.forwards,
        "seconds": plain(observation.seconds),
        "inputs": [_input(item) for item in observation.inputs],
        "environment": plain(observation.environment),
        "command": observation.command,
        "remarks": list(observation.remarks),
    }


def _verdict(observation: Observation) -> dict[str, Json]:
    return {
        "verdict": observation.verdict,
        "why": observation.why,
        "flags": list(observation.flags),
        "effect": plain(observation.effect),
        "noise_floor": plain(observation.noise_floor),
        "is_untrained": observation.is_untrained,
        "quantised_dynamically": observation.quantised_dynamically,
        "fixed_batch": observation.fixed_batch,
        "fails_at_one": observation.fails_at_one,
        "lost_at": list(observation.lost_at),
    }


def _figures(observation: Observation) -> dict[str, Json]:
    return {
        "reference_size": observation.reference_size,
        "sizes": [_size(item) for item in observation.sizes],
        "outputs": [_output(item) for item in observation.outputs],
        "repeat_effect": plain(observation.repeat_effect),
        "seed_effect": plain(observation.seed_effect),
        "second_call_effect": plain(observation.second_call_effect),
        "mode_gap": plain(observation.mode_gap),
        "rounding_only": plain(observation.rounding_only),
        "optimisation_effect": plain(observation.optimisation_effect),
        "padding_effect": plain(observation.padding_effect),
        "norm_calls": observation.norm_calls,
        "registered_norms": observation.registered_norms,
    }


def _places(observation: Observation) -> dict[str, Json]:
    return {
        "first_divergence": _place(observation.first_divergence),
        "combined_at": _place(observation.combined_at),
        "restored_by": list(observation.restored_by),
        "latent": _all(observation.latent),
        "profile": [_layer(item) for item in observation.profile],
        "buffers_changed": list(observation.buffers_changed),
        "norm_buffers_changed": list(observation.norm_buffers_changed),
        "unregistered_norms": _all(observation.unregistered_norms),
        "ungated_dropout": _all(observation.ungated_dropout),
        "drifting": list(observation.drifting),
    }


def _all(places: Iterable[Place]) -> list[Json]:
    return [_place(place) for place in places]


def _place(place: Place | None) -> dict[str, Json] | None:
    if place is None:
        return None
    return {"path": place.path, "type": place.type_name, "op": place.op, "node": place.node}


def _layer(layer: LayerEffect) -> dict[str, Json]:
    return {"path": layer.path, "effect": plain(layer.effect), "type": layer.type_name, "is_norm": layer.is_norm}


def _size(size: SizeResult) -> dict[str, Json]:
    return {
        "batch_size": size.batch_size,
        "status": size.status,
        "max_abs": plain(size.max_abs),
        "max_rel": plain(size.max_rel),
        "top1_changes": size.top1_changes,
        "seconds": plain(size.seconds),
        "error": size.error,
        "samples": plain(size.samples),
    }


def _output(output: OutputResult) -> dict[str, Json]:
    return {
        "name": output.name,
        "dtype": output.dtype,
        "shape": list(output.shape),
        "batch_axis": output.batch_axis,
        "max_abs": plain(output.max_abs),
        "max_rel": plain(output.max_rel),
        "top1_changes": output.top1_changes,
    }


def _input(item: InputUsed) -> dict[str, Json]:
    return {
        "name": item.name,
        "dtype": item.dtype,
        "shape": list(item.shape),
        "batch_axis": item.batch_axis,
        "origin": item.origin,
    }
