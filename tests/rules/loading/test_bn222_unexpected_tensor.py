from loadings import loaded, without_loading
from rule_subjects import only, outcome

from bn_audit.rules.loading.bn222_unexpected_tensor import RULE
from bn_audit.subject.finding import Severity


def test_statistics_that_the_model_was_built_without():
    finding = only(RULE, loaded(unexpected=("bn2.running_mean", "bn2.running_var", "bn2.num_batches_tracked")))
    assert finding.message == "3 tensors in w.pt that the model lacks, 2 of them running statistics"
    assert finding.severity is Severity.WARNING


def test_an_auxiliary_head_is_named():
    finding = only(RULE, loaded(unexpected=("aux.weight",)))
    assert (finding.locations[0].path, finding.locations[0].tensor) == ("aux", "weight")


def test_a_lone_counter_is_left_to_its_own_rule():
    assert outcome(RULE, loaded(unexpected=("bn2.num_batches_tracked",))) == []


def test_weights_that_fit_are_silent():
    assert outcome(RULE, loaded(missing=("fc.weight",))) == []
    assert outcome(RULE, without_loading()) == []
