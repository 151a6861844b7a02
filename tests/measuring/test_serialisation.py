"""Jobs and observations as JSON and back."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from bn_audit.errors import UsageError
from bn_audit.measuring.order import Order, order_of
from bn_audit.measuring.serialisation import read, written
from bn_audit.subject.observation import LayerEffect, Observation, Place, SizeResult
from bn_audit.subject.run import Job

OBSERVATION = Observation(
    runner="torch",
    verdict="content",
    effect=math.inf,
    noise_floor=1e-6,
    sizes=(SizeResult(batch_size=1, samples=(0.5, math.nan)), SizeResult(batch_size=2, status="failed", error="no")),
    first_divergence=Place(path="a.b", node="n"),
    profile=(LayerEffect(path="a", effect=-math.inf, is_norm=True),),
    environment={"torch": "2"},
    remarks=("one", "two"),
)


def through_json(value: object) -> object:
    return json.loads(json.dumps(written(value), allow_nan=False))


def test_an_observation_comes_back_as_it_was() -> None:
    back = read(Observation, through_json(OBSERVATION))
    assert math.isnan(back.sizes[0].samples[1])
    steady = dataclasses.replace(OBSERVATION, sizes=OBSERVATION.sizes[1:])
    assert read(Observation, through_json(steady)) == steady


def test_every_field_of_a_job_comes_back() -> None:
    job = Job(
        source="a.onnx",
        format="onnx",
        route="ema",
        weights="w.pt",
        dtype="float32",
        threads=2,
        seed=3,
        batch_sizes=(1, 4),
        inputs=("x=float32:3",),
        batch_axis=1,
        trust=True,
        time_limit=math.inf,
        memory_limit=1 << 40,
    )
    assert read(Job, through_json(job)) == job


def test_numbers_of_numpy_become_plain_ones() -> None:
    value = dataclasses.replace(OBSERVATION, effect=np.float64(0.25), forwards=int(np.int64(3)))
    assert read(Observation, through_json(value)).effect == 0.25


@pytest.mark.parametrize(
    "change, named",
    [
        ({"effect": "large"}, "effect"),
        ({"effect": True}, "effect"),
        ({"runner": 3}, "runner"),
        ({"sizes": {}}, "sizes"),
        ({"sizes": [3]}, "sizes"),
        ({"first_divergence": "here"}, "first_divergence"),
        ({"environment": []}, "environment"),
        ({"forwards": 1.5}, "forwards"),
        ({"forwards": True}, "forwards"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change: dict[str, object], named: str) -> None:
    entry = through_json(OBSERVATION)
    with pytest.raises(ValueError, match=named):
        read(Observation, {**entry, **change})


def test_values_without_a_place_in_json_are_refused() -> None:
    with pytest.raises(TypeError, match="ndarray"):
        written(dataclasses.replace(OBSERVATION, effect=np.zeros(3)))


def test_an_order_carries_samples_without_pickling() -> None:
    samples = {"x": np.arange(6, dtype=np.int64).reshape(2, 3), "": np.float32([1.5])}
    back = order_of(Order(job=Job(source="m", format="onnx"), lost={"step": "why"}, samples=samples).line().decode())
    assert back.lost == {"step": "why"}
    assert back.samples is not None
    assert all(np.array_equal(back.samples[name], array) for name, array in samples.items())
    assert back.samples["x"].dtype == np.int64
    with pytest.raises(UsageError, match="no element type 'object'"):
        Order(job=back.job, samples={"x": np.array([object()])}).line()
