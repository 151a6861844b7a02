from rule_subjects import batch_norm, dropout, graph, only, outcome, paths, random_call, subject

from bn_audit.rules.random.bn504_live_randomness_in_graph import RULE
from bn_audit.subject.finding import Confidence, Intent, Severity


def test_live_dropout_is_an_error():
    finding = only(RULE, graph(random_calls=(dropout("a", probability=0.5), dropout("b", probability=0.1))))
    assert finding.message == "2 dropout calls switched on in the graph, probability 0.1, 0.5"
    assert paths(finding) == ["a", "b"]
    assert finding.locations[0].node == "node_a"
    assert finding.severity is Severity.ERROR


def test_a_probability_that_is_no_constant_lowers_the_confidence():
    assert only(RULE, graph(random_calls=(dropout(probability=None),))).confidence is Confidence.MEDIUM


def test_other_randomness_is_a_warning_for_every_intent():
    finding = only(RULE, graph(random_calls=(random_call("aten.bernoulli.p"), random_call("aten.randn.default"))))
    assert finding.message == "2 random calls in the graph (aten.bernoulli.p, aten.randn.default)"
    assert finding.severity is Severity.WARNING


def test_dropout_and_sampling_are_two_findings():
    findings = outcome(RULE, graph(batch_norm(), random_calls=(random_call(), dropout())))
    assert [finding.severity for finding in findings] == [Severity.ERROR, Severity.WARNING]


def test_dropout_that_is_off_is_silent():
    off = (dropout(live=False), dropout(probability=0.0), random_call(live=False))
    assert outcome(RULE, graph(random_calls=off)) == []


def test_a_switch_left_to_the_caller_is_silent():
    assert outcome(RULE, graph(random_calls=(dropout(live=None), random_call(live=None)))) == []


def test_modules_have_no_calls_to_look_at():
    assert outcome(RULE, subject(batch_norm())) == []


def test_training_goes_on_with_dropout():
    assert RULE.overrides == {Intent.RESUME: Severity.NOTE}
