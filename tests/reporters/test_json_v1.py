import io
import json
import math

import hand_made
import jsonschema
import pytest
from hand_made import audit, norm, report, tensor

from bn_audit.errors import TensorUnavailableError
from bn_audit.reporters.json_v1 import REPORTER, SCHEMA_ID, SCHEMA_PATH, plain
from bn_audit.subject.tensor import TensorRef

SCHEMA = json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))


def parsed(of):
    out = io.StringIO()
    REPORTER.render(of, out, False)
    out.getvalue().encode("ascii")
    return json.loads(out.getvalue(), parse_constant=lambda token: pytest.fail(f"{token} is no JSON"))


def test_the_schema_is_a_valid_schema_and_bears_the_name_of_the_format():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["title"] == SCHEMA["properties"]["schema"]["const"] == SCHEMA_ID


@pytest.mark.parametrize("case", hand_made.ALL)
def test_output_follows_the_schema(case):
    jsonschema.Draft202012Validator(SCHEMA).validate(parsed(hand_made.ALL[case]))


@pytest.mark.parametrize("case", hand_made.ALL)
def test_the_schema_names_every_field_that_is_written(case):
    def closed(schema):
        if isinstance(schema, dict):
            shut = {key: closed(value) for key, value in schema.items()}
            if "properties" in shut and "reason" not in shut.get("required", []):
                shut.setdefault("additionalProperties", False)
            return shut
        return [closed(item) for item in schema] if isinstance(schema, list) else schema

    jsonschema.Draft202012Validator(closed(SCHEMA)).validate(parsed(hand_made.ALL[case]))


@pytest.mark.parametrize("field", ["schema", "tool", "intent", "reports", "summary"])
def test_the_schema_rejects_a_document_without_a_field(field):
    document = parsed(hand_made.CLEAN)
    del document[field]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(document)


def test_the_schema_admits_additions():
    document = parsed(hand_made.EVERYTHING)
    document["added"] = document["reports"][0]["added"] = document["reports"][0]["norms"][0]["added"] = 1
    jsonschema.Draft202012Validator(SCHEMA).validate(document)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, "nan"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (1.5, 1.5),
        (True, True),
        ((1, math.nan), [1, "nan"]),
        ({"a": {"b": (math.inf,)}}, {"a": {"b": ["inf"]}}),
    ],
)
def test_what_json_has_no_number_for_becomes_a_string(value, expected):
    assert plain(value) == expected


def test_the_counter_is_a_number_or_null():
    def unavailable() -> bytes:
        raise TensorUnavailableError("meta device")

    lost = TensorRef(name="n", dtype="int64", shape=(), load=unavailable)
    norms = (
        norm("a"),
        norm("b", num_batches_tracked=None),
        norm("c", num_batches_tracked=lost),
        norm("d", num_batches_tracked=tensor("n", (2,), bytes(16), dtype="int64")),
        norm("e", num_batches_tracked=tensor("n", (), b"\x00\x00\xc0\x7f")),
    )
    written = parsed(audit(report(norms=norms)))["reports"][0]["norms"]
    assert [entry["num_batches_tracked"] for entry in written] == [1234, None, None, None, None]


def test_a_report_that_came_from_another_process_says_the_same():
    assert parsed(audit(report())) == parsed(audit(report().detached()))


def test_the_summary_counts_findings_of_all_reports():
    assert parsed(hand_made.EVERYTHING)["summary"] == {
        "sources": 3,
        "errors": 2,
        "warnings": 1,
        "notes": 1,
        "waived": 0,
        "baselined": 0,
        "unused_waivers": 0,
        "resolved": 0,
        "skipped": 1,
        "failed": 2,
        "exit_code": 3,
    }
