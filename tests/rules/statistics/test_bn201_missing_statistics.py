import pytest
from rule_subjects import header, only, outcome, paths, state_dict, stored_norm

from bn_audit.rules.statistics.bn201_missing_statistics import RULE
from bn_audit.subject.finding import Confidence, Severity
from bn_audit.subject.subject import Form, Model, OrphanTensors


def orphan(path, *, channels=8, bias=True, evidence=None, model="", confidence=Confidence.HIGH):
    return OrphanTensors(
        model=model,
        path=path,
        weight=header(f"{path}.weight", channels),
        bias=header(f"{path}.bias", channels) if bias else None,
        evidence=evidence,
        confidence=confidence,
    )


def weights(*shapes, orphans, route=""):
    """A state dict of the given (path, shape of the weight) in this order."""
    tensors = tuple(header(f"{path}.weight", *shape) for path, shape in shapes)
    return state_dict(models=(Model(route=route, form=Form.STATE_DICT, tensors=tensors),), orphans=tuple(orphans))


def test_a_proven_batch_norm_is_an_error():
    audited = weights(orphans=[orphan("bn1", evidence="its name is that of a batch norm"), orphan("bn2", evidence="x")])
    finding = only(RULE, audited)
    assert finding.severity is Severity.ERROR
    assert finding.message == (
        "2 batch-norm layers without running_mean and running_var beside their affine parameters "
        "(bn1: its name is that of a batch norm)"
    )
    assert paths(finding) == ["bn1", "bn2"]


@pytest.mark.parametrize("names", [("1", "4"), ("b1", "b2")])
def test_a_convolutional_network_with_unnamed_pairs_is_asked_about(names):
    first, second = names
    audited = weights(
        ("0", (8, 3, 3, 3)),
        (first, (8,)),
        ("3", (16, 8, 3, 3)),
        (second, (16,)),
        ("7", (10, 16)),
        orphans=[orphan(first), orphan(second, channels=16)],
    )
    finding = only(RULE, audited)
    assert (finding.severity, finding.confidence) == (Severity.NOTE, Confidence.LOW)
    assert paths(finding) == [first, second]


def test_proof_and_doubt_in_one_model_are_two_findings():
    audited = weights(
        ("0", (8, 3, 3, 3)),
        ("1", (8,)),
        orphans=[orphan("1"), orphan("bn", evidence="it has a batch counter")],
    )
    assert [finding.severity for finding in outcome(RULE, audited)] == [Severity.ERROR, Severity.NOTE]


def test_a_transformer_gives_no_finding():
    """Names of ViT (timm), GPT-2, Llama, BERT and Whisper; the patch embedding is a convolution."""
    audited = weights(
        ("patch_embed.proj", (192, 3, 16, 16)),
        ("blocks.0.norm1", (192,)),
        ("blocks.0.attn.qkv", (576, 192)),
        ("blocks.0.norm2", (192,)),
        ("h.0.ln_1", (192,)),
        ("model.layers.0.input_layernorm", (192,)),
        ("encoder.layer.0.attention.output.LayerNorm", (192,)),
        ("blocks.0.attn_ln", (192,)),
        orphans=[
            orphan("blocks.0.norm1", channels=192),
            orphan("blocks.0.norm2", channels=192),
            orphan("h.0.ln_1", channels=192),
            orphan("model.layers.0.input_layernorm", channels=192, bias=False),
            orphan("encoder.layer.0.attention.output.LayerNorm", channels=192),
            orphan("blocks.0.attn_ln", channels=192),
        ],
    )
    assert outcome(RULE, audited) == []


def test_layer_norms_in_a_plain_sequence_of_linear_layers_are_silent():
    audited = weights(
        ("0", (32, 16)), ("1", (32,)), ("3", (32, 32)), ("4", (32,)), orphans=[orphan("1", channels=32), orphan("4")]
    )
    assert outcome(RULE, audited) == []


def test_convnext_with_an_unnamed_layer_norm_after_its_stem_is_silent():
    audited = weights(
        ("downsample_layers.0.0", (96, 3, 4, 4)),
        ("downsample_layers.0.1", (96,)),
        ("stages.0.0.dwconv", (96, 1, 7, 7)),
        ("stages.0.0.norm", (96,)),
        orphans=[orphan("downsample_layers.0.1", channels=96), orphan("stages.0.0.norm", channels=96)],
    )
    assert outcome(RULE, audited) == []


def test_one_pair_among_many_convolutions_is_silent():
    audited = weights(
        ("0", (8, 3, 3, 3)),
        ("1", (8,)),
        ("2", (8, 8, 3, 3)),
        ("3", (8, 8, 3, 3)),
        orphans=[orphan("1")],
    )
    assert outcome(RULE, audited) == []


def test_a_state_dict_with_its_statistics_has_no_orphans():
    assert outcome(RULE, state_dict(stored_norm())) == []


def test_names_alone_are_an_error_with_less_confidence():
    audited = weights(
        orphans=[
            orphan("bn1", evidence="its name is that of a batch norm", confidence=Confidence.MEDIUM),
            orphan("layer1.bn2", evidence="its name is that of a batch norm", confidence=Confidence.MEDIUM),
        ]
    )
    finding = only(RULE, audited)
    assert (finding.severity, finding.confidence) == (Severity.ERROR, Confidence.MEDIUM)
    assert "lost, or group norms that took over the names" in finding.message


def beside(lacking, holding, *, channels=4, confidence=Confidence.HIGH):
    """Two state dicts of one file; only the second one has the statistics of `bn1`."""
    models = (lacking, holding)
    named = "its name is that of a batch norm"
    layer = orphan("module.bn1", channels=channels, evidence=named, model=lacking.route, confidence=confidence)
    return state_dict(stored_norm("bn1", model=holding.route), models=models, orphans=(layer,))


@pytest.mark.parametrize("averaged", [False, True])
def test_parameters_beside_the_whole_model_are_a_note(averaged):
    part = Model(route="ema", form=Form.STATE_DICT, averaged=averaged)
    finding = only(RULE, beside(part, Model(route="model", form=Form.STATE_DICT)))
    assert finding.severity is Severity.NOTE
    assert finding.message == "1 batch-norm layer in 'ema' without statistics of its own: only 'model' holds them"


def test_a_model_that_lacks_what_its_average_or_another_network_holds_is_an_error():
    model = Model(route="model", form=Form.STATE_DICT)
    average = Model(route="ema", form=Form.STATE_DICT, averaged=True)
    assert only(RULE, beside(model, average)).severity is Severity.ERROR
    unproven = beside(model, average, confidence=Confidence.MEDIUM)
    assert only(RULE, unproven).severity is Severity.ERROR
    other = Model(route="other", form=Form.STATE_DICT)
    assert only(RULE, beside(model, other, channels=8)).severity is Severity.ERROR
