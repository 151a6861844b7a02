"""The rules about names, for an artifact beside its reference."""

from comparisons import artifact, beside, convolution
from rule_subjects import GRAPH_FACTS, VARIANCE, batch_norm, only, onnx_norm, outcome, paths, ref

from bn_audit.rules.loading.bn202_missing_batch_counter import RULE as BN202
from bn_audit.rules.loading.bn203_low_key_match import RULE as BN203
from bn_audit.rules.loading.bn221_missing_tensor import RULE as BN221
from bn_audit.rules.loading.bn222_unexpected_tensor import RULE as BN222
from bn_audit.rules.loading.bn223_tensor_mismatch import RULE as BN223
from bn_audit.subject.finding import Severity


def test_counters_alone():
    finding = only(BN202, beside(artifact(), artifact(batch_norm(num_batches_tracked=None))))
    assert finding.message == "batch counters: 1 missing from target.pt, the rest of the layers fits"
    assert only(BN202, beside(artifact(batch_norm(num_batches_tracked=None)), artifact())).severity is Severity.NOTE


def test_equal_counters_and_other_missing_tensors_are_silent():
    assert outcome(BN202, beside(artifact(), artifact())) == []
    two = artifact(batch_norm("a"), batch_norm("b"))
    assert outcome(BN202, beside(two, artifact(batch_norm("a")))) == []


def test_a_prefix_on_either_side_is_a_note():
    for reference, target in (("bn", "module.bn"), ("module.bn", "bn")):
        finding = only(BN203, beside(artifact(batch_norm(reference)), artifact(batch_norm(target))))
        assert finding.severity is Severity.NOTE
        assert "only after the prefix 'module.' is stripped from" in finding.message


def test_names_that_mostly_fit_are_silent():
    two = artifact(batch_norm("a"), batch_norm("b"))
    assert outcome(BN203, beside(two, two)) == []
    assert outcome(BN203, beside(two, artifact(batch_norm("a"), batch_norm("c")))) == []


def test_a_layer_of_the_reference_is_missing():
    two = artifact(batch_norm("a"), batch_norm("b"))
    finding = only(BN221, beside(two, artifact(batch_norm("a"))))
    assert finding.message == (
        "5 tensors of the reference reference.pt are missing from target.pt, 2 of them running statistics"
    )
    assert set(paths(finding)) == {"b"}


def test_a_graph_lacks_a_layer_and_not_its_counters():
    two = artifact(batch_norm("a"), batch_norm("b"))
    finding = only(BN221, beside(two, artifact(onnx_norm("a"), facts=GRAPH_FACTS)))
    assert "b" in paths(finding)
    assert outcome(BN202, beside(artifact(batch_norm("a")), artifact(onnx_norm("a"), facts=GRAPH_FACTS))) != []


def test_a_layer_beyond_the_reference():
    two = artifact(batch_norm("a"), batch_norm("b"))
    finding = only(BN222, beside(artifact(batch_norm("a")), two))
    assert finding.message == (
        "5 tensors in target.pt that the reference reference.pt lacks, 2 of them running statistics"
    )
    head = convolution(name="head.weight")
    assert paths(only(BN222, beside(artifact(), artifact(others=[head])))) == ["head"]


def test_the_same_layers_are_neither_missing_nor_unexpected():
    for rule in (BN221, BN222):
        assert outcome(rule, beside(artifact(), artifact())) == []
        assert outcome(rule, beside(artifact(batch_norm("module.bn")), artifact())) == []


def test_statistics_cast_to_half_are_a_warning():
    finding = only(BN223, beside(artifact(), artifact(batch_norm(running_var=ref(VARIANCE, "float16")))))
    assert finding.severity is Severity.WARNING
    assert "bn.running_var: dtype float16, the reference has float32" in finding.message


def test_another_number_of_channels_is_an_error():
    small = batch_norm(**{role: ref([1.0] * 3) for role in ("weight", "bias", "running_mean", "running_var")})
    finding = only(BN223, beside(artifact(others=[convolution()]), artifact(small, others=[convolution()])))
    assert (finding.severity, finding.evidence["mismatched"]) == (Severity.ERROR, 4)


def test_equal_shapes_and_dtypes_are_silent():
    assert outcome(BN223, beside(artifact(), artifact())) == []
    half = artifact(batch_norm(running_var=ref(VARIANCE, "float16")))
    assert outcome(BN223, beside(half, half)) == []
