"""What a batch-norm call in a graph normalises: activations, parameters, or single instances in disguise.

A batch norm in training form mixes samples only where samples lie along an axis over which it reduces, that is any axis
but 1. Weight standardisation calls it on parameters, and an exported InstanceNorm calls it after folding the samples
into axis 1; neither mixes samples.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from bn_audit.flow.placement import Along, Folded, Operation, Placement, Special
from bn_audit.flow.transfer import placement_after
from bn_audit.subject.norm import InputOrigin

__all__ = ["Operation", "input_origin"]

MAX_STEPS = 1_000_000
"""Cap on the operands visited in one walk; the largest graph seen has some 100 000."""


def input_origin(
    value: str,
    producers: Mapping[str, Operation],
    *,
    parameters: Container[str],
    inputs: Container[str],
    placements: dict[str, Placement] | None = None,
) -> InputOrigin:
    """Return what a batch-norm call over `value` normalises, found by walking back to where it comes from.

    Sound rather than complete: INSTANCES and PARAMETERS are proved, and what is not proved is UNDECIDED.

    Args:
        value: Name of the value that the call normalises.
        producers: What computed each value. A graph input or parameter may have an entry too, so as to record its
            shape; its op does not matter.
        parameters: Values that no sample determines: parameters, buffers, constants.
        inputs: Values given at each call, with the samples along axis 0.
        placements: What earlier walks over the same graph found; updated, so that many walks cost as much as one.
    """
    found = {} if placements is None else placements
    _place(value, producers, parameters, inputs, found)
    place = found[value]
    if isinstance(place, Folded):
        return InputOrigin.INSTANCES
    if isinstance(place, Along):
        # Samples along axis 1 are normalised one by one if nothing else lies there, which is not known.
        return InputOrigin.UNDECIDED if place.axis == 1 else InputOrigin.ACTIVATIONS
    return InputOrigin.PARAMETERS if place is Special.FREE else InputOrigin.UNDECIDED


def _place(
    value: str,
    producers: Mapping[str, Operation],
    parameters: Container[str],
    inputs: Container[str],
    found: dict[str, Placement],
) -> None:
    """Find where the samples lie in `value` and everything before it, operands first, without recursion."""
    stack = [value]
    entered: set[str] = set()
    steps = 0
    while stack:
        name = stack[-1]
        if name in found:
            stack.pop()
            continue
        operation = producers.get(name)
        if name in parameters:
            found[name] = Special.FREE
        elif name in inputs:
            found[name] = _input_placement(operation)
        elif operation is None:
            found[name] = Special.UNKNOWN
        elif name in entered:
            # All operands are placed now, except those on a cycle through this value.
            found[name] = placement_after(
                operation,
                [found.get(operand, Special.UNKNOWN) for operand in operation.inputs],
                [getattr(producers.get(operand), "shape", None) for operand in operation.inputs],
            )
        else:
            entered.add(name)
            steps += len(operation.inputs) + 1
            if steps > MAX_STEPS:
                # Later walks must not pay again for what this one gave up on.
                found.update(dict.fromkeys(stack, Special.UNKNOWN))
                return
            stack.extend(operand for operand in operation.inputs if operand not in found and operand not in entered)


def _input_placement(operation: Operation | None) -> Placement:
    if operation is not None and operation.shape == ():
        return Special.UNKNOWN
    return Along(axis=0, whole=True)
