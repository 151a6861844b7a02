"""Tensors are read from the artifact once, and kept no longer than the subject lives."""

import gc
import weakref
from dataclasses import replace

from rule_subjects import MEAN, batch_norm, outcome, ref, subject

from bn_audit import plugins
from bn_audit.rules._values import values_of


def counted_ref(values, reads):
    tensor = ref(values)

    def load():
        reads.append(1)
        return tensor.load()

    return replace(tensor, load=load)


def test_all_rules_together_read_a_tensor_once():
    reads = []
    audited = subject(batch_norm("bn", running_mean=counted_ref(MEAN, reads)))
    for rule in plugins.rules():
        outcome(rule, audited)
    assert len(reads) == 1


def test_another_subject_is_read_anew():
    reads = []
    norm = batch_norm("bn", running_mean=counted_ref(MEAN, reads))
    first, second = subject(norm), subject(norm)
    values_of(first)
    values_of(second)
    assert len(reads) == 2


def test_what_was_read_dies_with_the_subject():
    audited = subject(batch_norm("bn"))
    layer = values_of(audited).layers[0].norm.running_mean
    alive = weakref.ref(layer.load)
    del layer, audited
    gc.collect()
    assert alive() is None
