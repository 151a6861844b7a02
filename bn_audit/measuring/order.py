"""What the parent asks of the process that runs a model, as one line of JSON."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bn_audit.measuring.serialisation import read, written
from bn_audit.subject.run import Array, Job


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
    samples = None if arrays is None else {name: _unpacked(text) for name, text in arrays.items()}
    return Order(job=read(Job, entry["job"]), lost=entry["lost"], samples=samples)


def _packed(array: Array) -> str:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return base64.b64encode(stream.getvalue()).decode("ascii")


def _unpacked(text: str) -> Array:
    array: Array = np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False)
    return array
