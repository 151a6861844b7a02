"""What every rule owes: its fixed code, name and severities, documentation, purity and silence where nothing is."""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from pathlib import Path

import pytest
from rule_subjects import (
    GRAPH_FACTS,
    MODULE_FACTS,
    NOT_CHECKED,
    batch_norm,
    call,
    declaring,
    flow,
    followed,
    graph,
    onnx_norm,
    outcome,
    ran,
    state_dict,
    stored_norm,
    subject,
)

from bn_audit import plugins
from bn_audit.interfaces import Rule
from bn_audit.subject.finding import Intent, Severity
from bn_audit.subject.norm import Mode, ModeOrigin
from bn_audit.subject.observation import Observation
from bn_audit.subject.subject import Facts

E, W, N = Severity.ERROR, Severity.WARNING, Severity.NOTE
RESUME, FINETUNE = Intent.RESUME, Intent.FINETUNE

TABLE = {
    "BN101": ("train-mode", E, {RESUME: N, FINETUNE: N}, ()),
    "BN102": ("mixed-mode", E, {RESUME: N, FINETUNE: N}, ("BN101",)),
    "BN103": ("no-running-statistics", E, {}, ()),
    "BN104": ("track-flag-contradiction", W, {}, ()),
    "BN105": ("buffers-change-in-inference", E, {}, ()),
    "BN106": ("norm-outside-registry-at-run-time", E, {}, ()),
    "BN108": ("unregistered-norm", E, {}, ()),
    "BN111": ("mode-not-recorded", N, {}, ()),
    "BN201": ("missing-statistics", E, {}, ()),
    "BN202": ("missing-batch-counter", N, {}, ()),
    "BN203": ("low-key-match", E, {}, ()),
    "BN204": ("untrained-statistics", W, {}, ("BN305",)),
    "BN205": ("non-finite-statistics", E, {}, ()),
    "BN206": ("negative-variance", E, {}, ()),
    "BN207": ("underflowed-variance", W, {}, ()),
    "BN208": ("eps-mismatch", W, {}, ()),
    "BN209": ("suspicious-momentum", W, {}, ()),
    "BN210": ("stale-average-statistics", N, {}, ()),
    "BN211": ("uneven-batch-counters", N, {}, ()),
    "BN212": ("statistics-differ-only", W, {}, ("BN224",)),
    "BN215": ("shape-or-order-mismatch", E, {}, ("BN212", "BN224")),
    "BN217": ("uninitialised-norm", E, {}, ()),
    "BN221": ("missing-tensor", E, {}, ()),
    "BN222": ("unexpected-tensor", W, {}, ()),
    "BN223": ("tensor-mismatch", E, {}, ()),
    "BN224": ("value-mismatch", W, {}, ()),
    "BN301": ("onnx-training-mode", E, {}, ()),
    "BN302": ("onnx-legacy-training-mode", E, {}, ()),
    "BN303": ("onnx-arity-contradiction", E, {}, ()),
    "BN304": ("statistics-computed-in-graph", E, {}, ("BN301", "BN407")),
    "BN305": ("placeholder-statistics", W, {}, ()),
    "BN307": ("output-drifts", E, {}, ()),
    "BN308": ("torchscript-baked-training", E, {}, ()),
    "BN309": ("torchscript-train-flag", E, {RESUME: N}, ()),
    "BN310": ("exported-program-training", E, {}, ()),
    "BN311": ("half-converted-export", E, {}, ("BN504",)),
    "BN313": ("fold-mismatch", E, {}, ()),
    "BN314": ("sync-batchnorm-deployed", W, {}, ()),
    "BN401": ("depends-on-companions", E, {}, ("BN404", "BN405", "BN406", "BN407")),
    "BN402": ("depends-on-batch-size", W, {}, ()),
    "BN403": ("fails-at-batch-one", E, {}, ()),
    "BN404": ("batch-baked-in", E, {}, ()),
    "BN405": ("dynamic-quantisation-couples", W, {}, ()),
    "BN406": ("companions-sizes-matter", W, {}, ()),
    "BN407": ("reduces-over-batch", W, {}, ()),
    "BN408": ("within-numeric-floor", N, {}, ()),
    "BN409": ("depends-on-position", E, {}, ()),
    "BN410": ("latent-mixing", W, {}, ()),
    "BN501": ("not-repeatable", E, {}, ()),
    "BN502": ("ungated-dropout", W, {}, ()),
    "BN504": ("live-randomness-in-graph", E, {RESUME: N}, ()),
    "BN505": ("state-changes-in-inference", W, {}, ()),
    "BN506": ("tracked-instance-norm", W, {}, ()),
    "BN507": ("mc-dropout-with-bn-train", E, {RESUME: N, FINETUNE: N}, ("BN101", "BN102", "BN309")),
    "BN601": ("gradient-frozen-only", W, {}, ()),
    "BN602": ("frozen-statistics-moved", E, {}, ("BN212", "BN224")),
    "BN603": ("frozen-pattern-unmatched", E, {}, ()),
    "BN604": ("frozen-at-initial-statistics", E, {}, ()),
    "BN605": ("statistics-never-moved", W, {}, ()),
    "BN701": ("foreign-names", N, {}, ()),
}
"""Code to name, severity for deployment, severity for other intents, codes that it replaces: published, so fixed."""

HEADINGS = ("What it checks:", "Why it matters:", "Example:", "Remedy:", "Limits:", "Sources:")

ALL_RULES = [pytest.param(rule, id=rule.code) for rule in plugins.rules()]


def source(rule: Rule) -> Path:
    return Path(str(sys.modules[rule.check.__module__].__file__))


def sections(rule: Rule) -> dict[str, str]:
    """The documentation by heading; the first sentence under the empty heading."""
    parts = re.split(rf"^({'|'.join(map(re.escape, HEADINGS))})", rule.documentation, flags=re.MULTILINE)
    return {"": parts[0].strip(), **dict(zip(parts[1::2], parts[2::2], strict=True))}


def test_codes_and_names_are_unique():
    codes = [rule.code for rule in plugins.rules()]
    names = [rule.name for rule in plugins.rules()]
    assert len(set(codes)) == len(codes)
    assert len(set(names)) == len(names)


def test_no_published_rule_has_gone():
    assert {rule.code for rule in plugins.rules()} >= TABLE.keys()


@pytest.mark.parametrize("rule", ALL_RULES)
def test_what_is_published_stays_as_it_is(rule):
    expected = TABLE.get(rule.code)
    assert expected is not None, f"add {rule.code} to the table of published rules"
    assert (rule.name, rule.severity, dict(rule.overrides), rule.supersedes) == expected


@pytest.mark.parametrize("rule", ALL_RULES)
def test_the_file_is_named_after_the_rule(rule):
    assert source(rule).stem == f"{rule.code.lower()}_{rule.name.replace('-', '_')}"
    assert re.fullmatch(r"BN\d{3}", rule.code)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", rule.name)


@pytest.mark.parametrize("rule", ALL_RULES)
def test_documentation_has_the_fixed_headings_in_order(rule):
    found = re.findall(r"^([A-Z][\w ]+:)", rule.documentation, flags=re.MULTILINE)
    assert found == list(HEADINGS)
    assert all(text.strip() for text in sections(rule).values())


@pytest.mark.parametrize("rule", ALL_RULES)
def test_documentation_begins_with_one_sentence_on_one_line(rule):
    first = sections(rule)[""]
    assert re.fullmatch(r"[A-Z][^\n]*[^.]\.", first), first


@pytest.mark.parametrize("rule", ALL_RULES)
def test_the_example_is_python(rule):
    tree = ast.parse(textwrap.dedent(sections(rule)["Example:"].lstrip("\n")))
    assert any(isinstance(node, ast.Attribute) for node in ast.walk(tree))


@pytest.mark.parametrize("rule", ALL_RULES)
def test_summary_and_remedy_can_stand_in_a_table(rule):
    assert rule.summary
    assert "\n" not in rule.summary
    assert not rule.summary.endswith(".")
    assert rule.remedy.endswith(".")
    assert "\n" not in rule.remedy


@pytest.mark.parametrize("rule", ALL_RULES)
def test_a_rule_looks_at_the_subject_and_nothing_else(rule):
    """Transitively within the rules: no file access, no clock, no randomness, no framework."""
    allowed = {
        "math",
        "struct",
        "re",
        "typing",
        "collections",
        "collections.abc",
        "__future__",
        "dataclasses",
        "weakref",
        "functools",
    }
    pending, seen = [source(rule)], set()
    while pending:
        path = pending.pop()
        if path in seen:
            continue
        seen.add(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [str(node.module)]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            for name in names:
                if name.startswith("bn_audit.rules."):
                    pending.append(Path(str(sys.modules[name].__file__)))
                else:
                    assert name in allowed or name.startswith(
                        ("bn_audit.interfaces", "bn_audit.subject.", "bn_audit.errors")
                    ), name
        calls = {node.func.id for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if _is_named_call(node)}
        assert not calls & {"open", "exec", "eval", "print", "input", "__import__"}


def _is_named_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name)


@pytest.mark.parametrize("rule", ALL_RULES)
@pytest.mark.parametrize("facts", [Facts.NONE, MODULE_FACTS, GRAPH_FACTS])
def test_an_artifact_without_norm_layers_gives_neither_finding_nor_skip(rule, facts):
    assert outcome(rule, subject(facts=facts)) == []


@pytest.mark.parametrize("rule", ALL_RULES)
def test_a_healthy_trained_model_in_evaluation_mode_is_clean(rule):
    assert outcome(rule, subject(*(batch_norm(f"layer{index}.bn") for index in range(5)))) == []


def test_a_healthy_state_dict_is_told_what_it_cannot_say_and_nothing_more():
    audited = state_dict(stored_norm("a"), stored_norm("b"))
    outcomes = {rule.code: outcome(rule, audited) for rule in plugins.rules()}
    told = {code for code, result in outcomes.items() if result}
    assert told == {"BN101", "BN111", "BN208", "BN209"}
    assert [finding.severity for finding in outcomes["BN111"]] == [Severity.NOTE]


def test_a_healthy_graph_is_clean():
    for origin in (ModeOrigin.TRACED_CONSTANT, ModeOrigin.SCRIPTED_FLAG, ModeOrigin.EXPORTED_ARGUMENT):
        audited = graph(call("a", Mode.EVAL, origin), call("b", Mode.EVAL, origin))
        assert {rule.code: found for rule in plugins.rules() if (found := outcome(rule, audited))} == {}


@pytest.mark.parametrize("origin", [ModeOrigin.ONNX_ATTRIBUTE, ModeOrigin.ONNX_LEGACY])
def test_a_healthy_onnx_graph_is_clean(origin):
    verdicts = tuple(flow("independent", name) for name in ("logits", "features"))
    audited = followed(onnx_norm("a", origin=origin), onnx_norm("b", origin=origin), flows=verdicts)
    assert {rule.code: found for rule in plugins.rules() if (found := outcome(rule, audited))} == {}
    assert [reason for rule in plugins.rules() for reason in rule.open_questions(audited)] == []


def test_a_graph_that_was_not_followed_says_so_for_every_rule_about_the_batch():
    audited = graph(onnx_norm("a"), graphs={"": declaring("batch")})
    unchecked = {rule.code for rule in plugins.rules() if outcome(rule, audited) == NOT_CHECKED}
    assert unchecked == {"BN401", "BN402", "BN404", "BN405", "BN407", "BN409"}


@pytest.mark.parametrize("rule", [rule for rule in plugins.rules() if Facts.OBSERVATION in rule.needs])
def test_a_rule_about_runs_is_silent_where_no_run_was_asked_for_or_none_succeeded(rule):
    asked = subject(batch_norm("a"), observation=Observation(runner="torch", verdict="cannot-run"))
    assert outcome(rule, subject(batch_norm("a"))) == outcome(rule, asked) == []


@pytest.mark.parametrize("rule", ALL_RULES)
def test_a_healthy_model_is_clean_when_it_is_run_too(rule):
    assert outcome(rule, ran(batch_norm("a"), batch_norm("b"))) == []
    assert list(rule.open_questions(ran(batch_norm("a")))) == []
