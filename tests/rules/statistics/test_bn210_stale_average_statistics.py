from rule_subjects import MEAN, VARIANCE, WEIGHT, batch_norm, no_statistics, only, outcome, paths, ref, subject

from bn_audit.rules.statistics.bn210_stale_average_statistics import RULE
from bn_audit.subject.finding import Severity
from bn_audit.subject.subject import Form, Model

AVERAGED_WEIGHT = ref([value * 0.9 for value in WEIGHT])
AVERAGED_STATISTICS = {
    "running_mean": ref([value * 0.9 for value in MEAN]),
    "running_var": ref([value * 0.9 for value in VARIANCE]),
}
INITIAL = {"running_mean": ref([0.0] * 4), "running_var": ref([1.0] * 4)}


def pair(*averaged, live=("bn1", "bn2"), averaged_flag=True):
    """A checkpoint with a live model and the given layers as its average."""
    models = (
        Model(route="model", form=Form.STATE_DICT),
        Model(route="ema", form=Form.STATE_DICT, averaged=averaged_flag),
    )
    return subject(*(batch_norm(path, model="model") for path in live), *averaged, models=models)


def average(path, **changes):
    return batch_norm(path, model="ema", **{"weight": AVERAGED_WEIGHT, **changes})


def test_copied_statistics_beside_averaged_weights_are_a_note():
    finding = only(RULE, pair(average("bn1"), average("bn2")))
    assert finding.severity is Severity.NOTE
    assert finding.message == (
        "2 of 2 batch-norm layers in 'ema' have exactly the statistics of 'model' although the averaged weights differ"
    )


def test_initial_statistics_beside_a_trained_model_are_a_warning():
    finding = only(RULE, pair(average("bn1", **INITIAL), average("bn2")))
    assert finding.severity is Severity.WARNING
    assert paths(finding) == ["bn1"]


def test_the_wrapper_of_an_averaged_model_does_not_hide_the_pair():
    assert outcome(RULE, pair(average("module.bn1"), average("module._orig_mod.bn2")))


def test_averaged_statistics_are_silent():
    audited = pair(average("bn1", **AVERAGED_STATISTICS), average("bn2", **AVERAGED_STATISTICS))
    assert outcome(RULE, audited) == []


def test_a_copy_that_is_equal_in_everything_is_silent():
    assert outcome(RULE, pair(average("bn1", weight=ref(WEIGHT)), average("bn2", weight=ref(WEIGHT)))) == []


def test_a_fresh_pair_is_silent():
    models = (Model(route="model", form=Form.MODULE), Model(route="ema", form=Form.MODULE, averaged=True))
    norms = (batch_norm("bn", model="model", **INITIAL), batch_norm("bn", model="ema", **INITIAL))
    assert outcome(RULE, subject(*norms, models=models)) == []


def test_student_and_teacher_of_different_layers_are_no_pair():
    assert outcome(RULE, pair(average("other.bn"))) == []


def test_two_live_models_and_an_average_alone_are_silent():
    assert outcome(RULE, pair(average("bn1"), average("bn2"), averaged_flag=False)) == []
    alone = subject(average("bn1", **INITIAL), models=(Model(route="ema", form=Form.MODULE, averaged=True),))
    assert outcome(RULE, alone) == []


def test_layers_without_statistics_are_not_compared():
    models = (Model(route="model", form=Form.MODULE), Model(route="ema", form=Form.MODULE, averaged=True))
    audited = subject(no_statistics("bn", model="model"), no_statistics("bn", model="ema"), models=models)
    assert outcome(RULE, audited) == []
