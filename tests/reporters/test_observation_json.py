"""The ``sweep`` block: every field of the observation, under the names that the format fixed."""

import io
import json
from dataclasses import fields

import hand_made
import hand_made_sweeps
import jsonschema
import pytest

from bn_audit.reporters.json_v1 import REPORTER, SCHEMA_PATH
from bn_audit.subject.observation import (
    FLAGS,
    VERDICTS,
    InputUsed,
    LayerEffect,
    Observation,
    OutputResult,
    Place,
    SizeResult,
)
from bn_audit.subject.report import Skipped

SCHEMA = json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))
SWEEP = SCHEMA["$defs"]["sweep"]
FIXED = {
    "runner",
    "device",
    "dtype",
    "seed",
    "verdict",
    "flags",
    "effect",
    "noise_floor",
    "sizes",
    "first_divergence",
    "latent",
    "profile",
    "buffers_changed",
    "outputs",
    "inputs",
    "environment",
    "command",
}
"""The names that every report of this version has."""


def parsed(of):
    out = io.StringIO()
    REPORTER.render(of, out, False)
    out.getvalue().encode("ascii")
    return json.loads(out.getvalue(), parse_constant=lambda token: pytest.fail(f"{token} is no JSON"))


def sweep(case: str):
    return parsed(hand_made_sweeps.ALL[case])["reports"][0]["sweep"]


def names(kind) -> set[str]:
    return {"type" if field.name == "type_name" else field.name for field in fields(kind)}


@pytest.mark.parametrize("case", hand_made_sweeps.ALL)
def test_output_follows_the_schema(case):
    document = parsed(hand_made_sweeps.ALL[case])
    if case == "sweep_hostile":
        document["reports"][0]["sweep"]["tier"] = "full"
    jsonschema.Draft202012Validator(SCHEMA).validate(document)


@pytest.mark.parametrize("case", hand_made_sweeps.ALL)
def test_every_field_of_the_observation_is_written_and_described(case):
    written = sweep(case)
    assert set(written) == names(Observation) == set(SWEEP["properties"])
    assert set(SWEEP["required"]) == FIXED <= set(written)
    for name, kind in (
        ("sizes", SizeResult),
        ("outputs", OutputResult),
        ("inputs", InputUsed),
        ("profile", LayerEffect),
    ):
        described = SWEEP["properties"][name]["items"]["properties"]
        assert all(set(item) == names(kind) == set(described) for item in written[name])
    place = written["first_divergence"]
    assert place is None or set(place) == names(Place) == set(SCHEMA["$defs"]["running_place"]["properties"])


def test_the_schema_knows_every_verdict_and_flag():
    assert SWEEP["properties"]["verdict"]["enum"] == list(VERDICTS)
    assert SWEEP["properties"]["flags"]["items"]["enum"] == list(FLAGS)


def test_what_json_has_no_number_for_is_a_string():
    row = sweep("sweep_undecided")["sizes"][3]
    assert (row["max_abs"], row["max_rel"]) == ("inf", "nan")
    assert row["samples"] == [0.0, "nan", "inf", 1e-9, 2.0]


def test_the_figures_are_those_of_the_observation():
    written = sweep("sweep_companions")
    assert (written["reference_size"], written["effect"], written["noise_floor"]) == (8, 0.132, 1.3e-6)
    assert written["first_divergence"]["type"] == "torch.nn.modules.batchnorm.BatchNorm2d"


def test_a_report_without_a_run_has_none():
    assert parsed(hand_made.CLEAN)["reports"][0]["sweep"] is None
    jsonschema.Draft202012Validator(SCHEMA).validate(parsed(hand_made.CLEAN))


def test_a_run_that_was_not_made_follows_the_schema():
    skipped = hand_made.report(skipped=(Skipped(code="run", reason="needs --trust"),))
    document = parsed(hand_made.audit(skipped))
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    document["reports"][0]["skipped"][0]["code"] = "walk"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(document)


@pytest.mark.parametrize("field", sorted(FIXED))
def test_the_schema_rejects_a_run_without_a_field(field):
    document = parsed(hand_made_sweeps.INDEPENDENT_RUN)
    del document["reports"][0]["sweep"][field]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(document)
