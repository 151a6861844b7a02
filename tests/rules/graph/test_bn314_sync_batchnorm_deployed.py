from rule_subjects import batch_norm, instance_norm, only, outcome, paths, state_dict, stored_norm, subject

from bn_audit.rules.graph.bn314_sync_batchnorm_deployed import RULE
from bn_audit.subject.finding import Severity
from bn_audit.subject.norm import Mode, NormKind


def synchronised(path, mode=Mode.EVAL):
    return batch_norm(path, mode, kind=NormKind.SYNC_BATCH_NORM, type_name="torch.nn.modules.batchnorm.SyncBatchNorm")


def test_sync_batch_norm_in_evaluation_mode():
    finding = only(RULE, subject(synchronised("a"), batch_norm("b"), synchronised("c")))
    assert finding.message == "2 of 3 batch-norm layers are SyncBatchNorm, made for training in several processes"
    assert finding.severity is Severity.WARNING


def test_and_in_training_mode():
    assert paths(only(RULE, subject(synchronised("a", Mode.TRAIN)))) == ["a"]


def test_ordinary_layers_are_silent():
    assert outcome(RULE, subject(batch_norm("a"), instance_norm("b"))) == []


def test_a_state_dict_does_not_show_the_type():
    assert outcome(RULE, state_dict(stored_norm())) == []
