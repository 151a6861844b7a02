"""What the parent asks of the process that runs a model, as one line of JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bn_audit.measuring.serialisation import read, written
from bn_audit.sampling.dtypes import dtype_name, numpy_dtype, require_dtype
from bn_audit.subject.run import Array, Job

FINDING_INPUTS = "finding inputs"
"""The step before any measurement, without which there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A job, the steps that ended an earlier process with the reason, and real samples where there are any."""

    job: Job
    lost: Mapping[str, str] = field(default_factory=dict)
    samples: Mapping[str, Array] | None = None

    def line(self) -> bytes:
        """Return the order as one line."""
        arrays = None if self.samples is None else {name: _packed(array) for name, array in self.samples.items()}
        return json.dumps({"job": written(self.job), "lost": dict(self.lost), "samples": arrays}).encode() + b"\n"


def order_of(line: str) -> Order:
    """Return the order that a line holds."""
    entry = json.loads(line)
    arrays = entry["samples"]
    samples = None if arrays is None else {name: _unpacked(entry) for name, entry in arrays.items()}
    return Order(job=read(Job, entry["job"]), lost=entry["lost"], samples=samples)


def _packed(array: Array) -> dict[str, object]:
    """Return an array as JSON can hold it; numpy's own format has no name for bfloat16 and float8."""
    dtype = require_dtype(dtype_name(array.dtype), "the given samples")
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
    return {"dtype": dtype, "shape": [*array.shape], "data": data}


def _unpacked(entry: Mapping[str, Any]) -> Array:
    data = base64.b64decode(entry["data"])
    return np.frombuffer(data, numpy_dtype(entry["dtype"])).reshape(entry["shape"])
