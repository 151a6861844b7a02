from rule_subjects import batch_norm, frozen_norm, no_statistics, only, outcome, paths, subject

from bn_audit.rules.statistics.bn217_uninitialised_norm import RULE
from bn_audit.subject.norm import Mode


def test_a_lazy_batch_norm_that_never_saw_data():
    lazy = batch_norm("bn", Mode.TRAIN, num_features=0, uninitialised=True)
    finding = only(RULE, subject(batch_norm("fine"), lazy))
    assert finding.message == "1 of 2 normalisation layers is uninitialised: no batch has passed yet"
    assert paths(finding) == ["bn"]


def test_a_fresh_activation_norm_takes_its_scale_from_the_first_batch():
    assert paths(only(RULE, subject(frozen_norm("actnorm", uninitialised=True)))) == ["actnorm"]


def test_a_materialised_lazy_layer_is_silent():
    lazy = batch_norm("bn", type_name="torch.nn.modules.batchnorm.LazyBatchNorm2d")
    assert outcome(RULE, subject(lazy)) == []


def test_a_layer_without_statistics_is_initialised():
    assert outcome(RULE, subject(no_statistics("bn"))) == []
