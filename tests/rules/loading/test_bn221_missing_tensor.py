from loadings import CONVOLUTION, LAYER, loaded, without_loading
from rule_subjects import only, outcome, paths

from bn_audit.rules.loading.bn221_missing_tensor import RULE


def test_statistics_that_were_not_saved():
    finding = only(RULE, loaded(missing=("bn.running_mean", "bn.running_var")))
    assert finding.message == "2 tensors of the model are missing from w.pt, 2 of them running statistics"
    assert [(location.path, location.tensor) for location in finding.locations] == [
        ("bn", "running_mean"),
        ("bn", "running_var"),
    ]


def test_a_whole_layer_is_missing_with_its_counter():
    assert len(only(RULE, loaded(matched=CONVOLUTION, missing=LAYER)).locations) == 5


def test_any_tensor_of_the_model_counts():
    finding = only(RULE, loaded(missing=("fc.weight",)))
    assert finding.message == "1 tensor of the model is missing from w.pt"
    assert paths(finding) == ["fc"]


def test_a_lone_counter_is_left_to_its_own_rule():
    assert outcome(RULE, loaded(missing=("bn.num_batches_tracked",))) == []


def test_weights_that_fit_are_silent():
    assert outcome(RULE, loaded(unexpected=("fc.weight",))) == []
    assert outcome(RULE, without_loading()) == []
