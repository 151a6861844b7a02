from rule_subjects import batch_norm, no_statistics, only, outcome, paths, state_dict, stored_norm, subject

from bn_audit.rules.mode.bn104_track_flag_contradiction import RULE


def test_flag_off_beside_buffers_says_that_evaluation_uses_them():
    finding = only(RULE, subject(batch_norm("a", track_running_stats=False), batch_norm("b")))
    assert finding.message.startswith("1 of 2 batch-norm layers has track_running_stats False beside stored statistics")
    assert paths(finding) == ["a"]


def test_flag_on_without_buffers_says_that_the_batch_is_used():
    finding = only(RULE, subject(no_statistics("a", track_running_stats=True)))
    assert "the current batch's are used, even after eval()" in finding.message


def test_both_directions_in_one_model_are_two_findings():
    audited = subject(batch_norm("a", track_running_stats=False), no_statistics("b", track_running_stats=True))
    assert [paths(finding) for finding in outcome(RULE, audited)] == [["a"], ["b"]]


def test_flags_that_agree_are_silent():
    assert outcome(RULE, subject(batch_norm("a"), no_statistics("b"))) == []


def test_a_lazy_layer_has_a_flag_and_no_buffers_yet():
    assert outcome(RULE, subject(no_statistics("a", track_running_stats=True, uninitialised=True))) == []


def test_a_state_dict_has_no_flag_to_contradict():
    assert outcome(RULE, state_dict(stored_norm())) == []
