"""How a model was run, in words."""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.reporters._observation import LONGEST_NAME, effect_text
from bn_audit.reporters._words import plural
from bn_audit.styled import clean
from bn_audit.subject.observation import InputUsed, Observation


def setting(observation: Observation) -> Iterator[tuple[str, str]]:
    """Yield (label, sentence) for how the model was run."""
    if observation.model:
        yield "model", clean(observation.model, LONGEST_NAME)
    yield "run", run_text(observation)
    for item in observation.inputs:
        yield "input", _input(item)
    for output in observation.outputs:
        effect = f", divergence {effect_text(output.max_rel)}" if output.max_rel is not None else ""
        changed = f", {output.top1_changes} changed top-1" if output.top1_changes else ""
        axis = axis_text(output.batch_axis, "no axis follows the batch size")
        shape = "x".join(map(str, output.shape)) or "scalar"
        name, dtype = clean(output.name, LONGEST_NAME), clean(output.dtype, LONGEST_NAME)
        yield "output", f"{name} {dtype} {shape}{axis}{effect}{changed}"
    for remark in observation.remarks:
        yield "note", clean(remark)


def run_text(observation: Observation) -> str:
    """Return ``onnxruntime on cpu, float32, 2 threads, seed 0, full tier, 26 forward passes in 3.1 s``."""
    runner = f"{clean(observation.runner, LONGEST_NAME)} " if observation.runner else ""
    parts = [f"{runner}on {clean(observation.device, LONGEST_NAME)}"]
    parts += [clean(observation.dtype, LONGEST_NAME)] if observation.dtype else []
    parts += [plural(observation.threads, "thread")] if observation.threads is not None else []
    parts += [f"seed {observation.seed}", f"{clean(observation.tier)} tier"]
    if observation.forwards:
        parts.append(f"{observation.forwards} forward passes in {observation.seconds:.1f} s")
    return ", ".join(parts)


def versions(observation: Observation) -> str:
    """Return ``onnxruntime 1.31.1, torch 2.13``."""
    return ", ".join(f"{clean(name, 60)} {clean(value, 60)}" for name, value in observation.environment.items())


def _input(item: InputUsed) -> str:
    shape = "x".join(map(str, item.shape)) or "scalar"
    origin = f" ({clean(item.origin)})" if item.origin else ""
    axis = axis_text(item.batch_axis, "shared by all samples")
    return f"{clean(item.name, LONGEST_NAME)} {clean(item.dtype, LONGEST_NAME)} {shape}{axis}{origin}"


def axis_text(axis: int | None, none: str) -> str:
    """Return what is unusual about a batch axis, after a comma; ``""`` for the first one."""
    if axis is None:
        return f", {none}"
    return f", batch axis {axis}" if axis else ""
