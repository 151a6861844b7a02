"""Pairs of models in one file of which one is an average of the other."""

from __future__ import annotations

from bn_audit.subject.subject import Model, Subject

WRAPPERS = ("module.", "_orig_mod.")
"""Path prefixes that DataParallel, AveragedModel and torch.compile add."""


def live_twins(subject: Subject) -> dict[str, Model]:
    """Return, by the route of each averaged model, the first other model that has the same batch norms."""
    if not any(model.averaged for model in subject.models):
        return {}
    paths: dict[str, set[str]] = {}
    for norm in subject.norms:
        if norm.kind.is_batch_norm:
            paths.setdefault(norm.model, set()).add(unwrapped(norm.path))
    layers = {route: frozenset(group) for route, group in paths.items()}
    live: dict[frozenset[str], Model] = {}
    for model in subject.models:
        if not model.averaged and model.route in layers:
            live.setdefault(layers[model.route], model)
    return {
        model.route: live[layers[model.route]]
        for model in subject.models
        if model.averaged and layers.get(model.route) in live
    }


def unwrapped(path: str) -> str:
    """Return a module path without the prefixes of wrappers."""
    while path.startswith(WRAPPERS):
        path = path.partition(".")[2]
    return path
