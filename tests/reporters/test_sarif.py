"""SARIF: valid against the published schema, relative, stable, and no name is a link.

``sarif-schema-2.1.0.json`` beside this file is the OASIS schema (oasis-tcs/sarif-spec, ``sarif-2.1/schema/``).
"""

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import hand_made
import jsonschema
import pytest
from hand_made import audit, finding, report

from bn_audit import plugins
from bn_audit.reporters.sarif import REPORTER
from bn_audit.styled import clean
from bn_audit.subject.finding import Intent, Location, Severity
from bn_audit.subject.report import Failed, Skipped

SCHEMA = json.loads((Path(__file__).parent / "sarif-schema-2.1.0.json").read_text(encoding="utf-8"))
RULES = tuple(rule.described(Intent.DEPLOY) for rule in plugins.rules())


def log(of) -> dict:
    out = io.StringIO()
    REPORTER.render(of, out, False)
    return json.loads(out.getvalue())


def run(of) -> dict:
    (only,) = log(of)["runs"]
    return only


@pytest.mark.parametrize("case", hand_made.ALL)
def test_it_follows_the_published_schema(case):
    document = log(replace(hand_made.ALL[case], rules=RULES))
    jsonschema.Draft4Validator(SCHEMA).validate(document)
    assert document["$schema"] == SCHEMA["id"]


def test_the_schema_finds_a_mistake():
    document = log(hand_made.TRAIN_MODE)
    document["runs"][0]["results"][0]["level"] = "fatal"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft4Validator(SCHEMA).validate(document)


def test_levels_are_those_of_the_findings():
    levels = {result["ruleId"]: result["level"] for result in run(hand_made.EVERYTHING)["results"]}
    expected = {item.code: item.severity.value for report in hand_made.EVERYTHING.reports for item in report.findings}
    assert levels == expected
    assert set(levels.values()) == {"error", "warning", "note"}


def test_a_finding_points_at_its_artifact_and_its_layers():
    places = (
        Location(model="ema", path="layer1.0.bn1"),
        Location(path="bn1", tensor="bn1.running_var"),
        Location(node="/head/BatchNormalization"),
        Location(model="ema"),
        Location(path="bn1", tensor="bn1.running_var"),
    )
    (result,) = run(audit(report(findings=(finding(locations=places),))))["results"]
    (place,) = result["locations"]
    assert place["physicalLocation"]["artifactLocation"] == {"uri": "model.pt", "index": 0}
    assert [(item["fullyQualifiedName"], item["kind"]) for item in place["logicalLocations"]] == [
        ("ema: layer1.0.bn1", "module"),
        ("bn1.running_var", "variable"),
        ("/head/BatchNormalization", "node"),
        ("ema: (root)", "object"),
    ]


@pytest.mark.parametrize(
    ("source", "uri"),
    [
        ("models/a b#1%.pt", "models/a%20b%231%25.pt"),
        ("./models/../model.pt", "model.pt"),
        ("shop.vision:make_model", "shop.vision%3Amake_model"),
        ("über.pt", "%C3%BCber.pt"),
        ("\udcff.pt", "%FF.pt"),
        ("/elsewhere/secret/model.pt", "model.pt"),
        ("../model.pt", "model.pt"),
    ],
)
def test_a_source_becomes_a_relative_reference(source, uri):
    whole = run(audit(report(source, findings=(finding(),))))
    (result,) = whole["results"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == uri
    assert whole["artifacts"][0]["location"]["uri"] == uri
    parts = urlsplit(uri)
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("", "", "", "")
    assert not unquote(uri).startswith("/")


def test_fingerprints_survive_reordering_and_tell_findings_apart():
    places = [Location(path=f"layer{n}.bn") for n in range(5)]
    first = finding(locations=tuple(places))
    other = finding("BN205", name="non-finite-statistics", locations=tuple(places))
    elsewhere = finding(locations=(Location(model="ema", path="layer0.bn"),))

    def prints(*findings, source="model.pt"):
        results = run(audit(report("zzz.pt"), report(source, findings=findings)))["results"]
        return [result["partialFingerprints"]["bnAuditFinding/v1"] for result in results]

    mixed = replace(first, locations=tuple(reversed(places)), message="another message", severity=Severity.NOTE)
    one, two, three = prints(first, other, elsewhere)
    assert prints(elsewhere, other, mixed) == [three, two, one]
    assert len({one, two, three, *prints(first, source="other.pt"), *prints(finding(locations=()))}) == 5
    assert prints(first, source="/elsewhere/model.pt") == [one]


def test_a_layer_that_is_added_changes_one_fingerprint_only():
    same, grown = finding("BN205"), finding()
    more = replace(grown, locations=(*grown.locations, Location(path="bn3")))
    before, after = (
        {item["ruleId"]: item["partialFingerprints"] for item in run(audit(report(findings=pair)))["results"]}
        for pair in ((same, grown), (same, more))
    )
    assert before["BN205"] == after["BN205"]
    assert before["BN101"] != after["BN101"]


def test_every_rule_of_the_run_is_described():
    rules = run(replace(hand_made.TRAIN_MODE, rules=RULES))["tool"]["driver"]["rules"]
    assert [item["id"] for item in rules] == [rule.code for rule in RULES]
    for item, rule in zip(rules, RULES, strict=True):
        assert item["defaultConfiguration"]["level"] == rule.severity.value
        assert rule.summary in item["shortDescription"]["text"]
        assert all(0 < len(item[key]["text"]) <= 1024 for key in ("shortDescription", "fullDescription"))
        assert item["help"]["text"] == rule.documentation
        assert re.findall(r"^\*\*([A-Z][A-Za-z ]+):\*\*", item["help"]["markdown"], re.MULTILINE) == [
            "What it checks",
            "Why it matters",
            "Example",
            "Remedy",
            "Limits",
            "Sources",
        ]
        assert item["help"]["markdown"].count("```") in (0, 2)


def test_results_and_notifications_refer_to_their_rule():
    of = audit(
        report(
            findings=(finding(), finding("BN205")),
            skipped=(Skipped(code="BN208", reason="why"),),
            failed=(Failed(stage="BN211", error="model.pt: what"),),
        )
    )
    whole = run(replace(of, rules=RULES))
    codes = [item["id"] for item in whole["tool"]["driver"]["rules"]]
    assert [codes[result["ruleIndex"]] for result in whole["results"]] == ["BN101", "BN205"]
    told = whole["invocations"][0]["toolExecutionNotifications"]
    assert [codes[item["associatedRule"]["index"]] for item in told] == ["BN211", "BN208"]


def test_what_was_not_audited_is_no_silent_success():
    (invocation,) = run(hand_made.EVERYTHING)["invocations"]
    assert invocation["executionSuccessful"] is False
    assert invocation["exitCode"] == 3
    told = [(item["level"], item["message"]["text"]) for item in invocation["toolExecutionNotifications"]]
    assert ("error", "read failed: broken.pt: is empty") in told
    assert ("note", "BN308 not checked: the artifact records no operators") in told
    assert ("warning", "not read: callbacks: no model in it") in told


def test_a_clean_run_is_a_success():
    (invocation,) = run(hand_made.CLEAN)["invocations"]
    assert invocation["executionSuccessful"] is True
    assert invocation["toolExecutionNotifications"] == []


def test_accepted_findings_are_results_with_their_reason():
    results = run(hand_made.ACCEPTED)["results"]
    reasons = {result["ruleId"]: [item["justification"] for item in result["suppressions"]] for result in results}
    assert reasons == {
        "BN101": ["waived (batch-statistics): pix2pix does so by design"],
        "BN504": ["waived until 2031-12-31: until the next export"],
        "BN205": ["known: it is in the baseline"],
    }
    assert {item["kind"] for result in results for item in result["suppressions"]} == {"external"}
    assert all("suppressions" not in result for result in run(hand_made.TRAIN_MODE)["results"])


def unescaped(message: str) -> str:
    """Read a message as SARIF 2.1.0 does, sections 3.11.5 and 3.11.6."""
    assert not re.search(r"(?<!\\)(?:\\\\)*\[", message), "a link could begin"
    return re.sub(r"\\([\\\[\]])", r"\1", message).replace("{{", "{").replace("}}", "}")


@pytest.mark.parametrize("name", [hand_made.HOSTILE, "[click](https://evil.example)", "{0} {{1}}", "\\[x](y)", "\0"])
def test_no_name_is_a_link_or_a_placeholder(name):
    (result,) = run(audit(report(findings=(finding(message=name, locations=(Location(path=name),)),))))["results"]
    message = result["message"]["text"]
    assert unescaped(message) == f"{clean(name)}. Where: {clean(name)}. Fix: Call model.eval() before saving."
    assert not re.search(r"(?<!\{)(?:\{\{)*\{[0-9]", message)


def test_the_log_is_ascii_without_control_characters_in_any_text():
    out = io.StringIO()
    REPORTER.render(hand_made.HOSTILE_NAMES, out, False)
    assert out.getvalue().isascii()

    def texts(value):
        if isinstance(value, dict):
            for key, item in value.items():
                yield key
                yield from texts(item)
        elif isinstance(value, list):
            for item in value:
                yield from texts(item)
        elif isinstance(value, str):
            yield value

    assert [text for text in texts(json.loads(out.getvalue())) if not text.isprintable()] == []


def test_no_absolute_path_is_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = Failed(stage="read", error=f"{tmp_path}/m.pt: cannot be opened", traceback=f'File "{tmp_path}/x.py"')
    out = io.StringIO()
    REPORTER.render(audit(report(f"{tmp_path}/m.pt", failed=(error,))), out, False)
    assert str(tmp_path) not in out.getvalue()
    assert "read failed: m.pt: cannot be opened" in out.getvalue()
