"""Telling real differences from floating point: in double precision, or beside the model's response to one ulp."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bn_audit.errors import RunError
from bn_audit.experiments._comparing import Axes, direction, largest_effect
from bn_audit.experiments._response import response_of
from bn_audit.experiments._results import Noise, axes_from, found
from bn_audit.running import Bench, Figures
from bn_audit.subject.run import Batch, Outputs

DOUBLE = 1e-9
"""Clean networks differ by at most 1.8e-12 in double precision, real effects are as large as in single."""

AGREEING = 0.9
"""Cosine of the single and the double difference: rounding gave at most 0.4, effects down to 1e-6 at least 0.92."""

SMALLEST_DIRECTED = 1e-7
"""Below this the direction says nothing."""

RESPONSES = 10.0
"""Floating point explains 1.7 responses at most."""

SMALLEST_STEP = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
"""One unit in the last place of 1.0, by element type."""


@dataclass(slots=True, kw_only=True)
class Precision:
    """Runs in double precision, each made once; nothing more is tried after the first refusal."""

    bench: Bench
    figures: Mapping[str, Figures]
    refused: bool = False
    is_low: bool = False
    runs: dict[int, tuple[Batch, Outputs]] = field(default_factory=dict)
    noise: Noise | None = None

    def outputs(self, what: str, batch: Batch) -> Outputs | None:
        """Return the outputs in double precision; None where the model does not run in it."""
        known = self.runs.get(id(batch))
        if known is not None:
            return known[1]
        if self.refused:
            return None
        try:
            self.bench.say(f"{what} in double precision", 1)
            run = self.bench.session.run(batch, seed=self.bench.job.seed, float64=True)
        except RunError:
            self.refused = True
            return None
        self.is_low = self.is_low or run.low_precision
        self.runs[id(batch)] = batch, run.outputs[0]  # the batch is kept so that its identity stays its own
        return run.outputs[0]

    @property
    def axes(self) -> Axes:
        """The axis of the samples in each output."""
        return axes_from(self.figures)

    def floor(self) -> float | None:
        """Return the effect that floating point may explain; None where it could not be measured."""
        if self.noise is None:
            self.noise = found(self.figures, Noise) or response_of(self.bench, self.figures)
        if self.noise.response is None:
            return None
        return RESPONSES * max(
            self.noise.response, SMALLEST_STEP.get(self.bench.session.dtype, SMALLEST_STEP["float32"])
        )

    def is_real(
        self, single: tuple[Outputs, Outputs], double: Callable[[], tuple[Outputs, Outputs] | None]
    ) -> bool | None:
        """Return whether a difference is more than floating point; None where that cannot be told.

        Args:
            single: The two outputs that differ, as the model gives them.
            double: Gives the same two in double precision.
        """
        effect = largest_effect(*single, self.axes)
        if math.isinf(effect):
            return True
        noise = self.noise or found(self.figures, Noise)
        if noise is not None and noise.response is not None and effect <= noise.response:
            return False  # no larger than what one unit in the last place does; double precision would cost more
        pair = double()
        if pair is None:
            floor = self.floor()
            return None if floor is None else effect > floor
        exact = largest_effect(*pair, self.axes)
        if not self.is_low:
            return exact > DOUBLE
        return exact > SMALLEST_DIRECTED and direction(single, pair) > AGREEING
