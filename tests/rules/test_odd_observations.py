"""Whatever a run is said to have shown, a rule gives findings that can be written; it never fails."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st
from rule_subjects import (
    FLOW_FACTS,
    NOT_CHECKED,
    batch_norm,
    declaring,
    flow,
    mark,
    onnx_norm,
    outcome,
    ran,
    random_call,
)

from bn_audit import plugins
from bn_audit.subject.norm import Mode
from bn_audit.subject.observation import (
    FLAGS,
    VERDICTS,
    InputUsed,
    LayerEffect,
    Observation,
    OutputResult,
    Place,
    SizeResult,
)
from bn_audit.subject.subject import Facts

EFFECTS = st.none() | st.sampled_from([0.0, 1e-45, 1e-9, 1e-5, 0.01, 1.0, 1e300, math.inf, math.nan, -1.0])
TEXTS = st.sampled_from(["", "bn", ".", "\x1b[2J\n", "x" * 500 + ".", "bn.running_mean", " a. \n b. "])
PLACES = st.builds(Place, path=TEXTS, type_name=TEXTS, op=TEXTS, node=st.none() | TEXTS)
NAMES = st.lists(TEXTS, max_size=4).map(tuple)
SIZES = st.builds(
    SizeResult,
    batch_size=st.sampled_from([0, 1, 2, 8, -1]),
    status=st.sampled_from(["ok", "failed", "unheard of"]),
    max_rel=EFFECTS,
    top1_changes=st.none() | st.integers(0, 3),
    error=TEXTS,
)
OUTPUTS = st.builds(
    OutputResult,
    name=TEXTS,
    dtype=st.just("float32"),
    shape=st.just((2,)),
    max_rel=EFFECTS,
    top1_changes=st.none() | st.integers(0, 3),
)
INPUTS = st.builds(InputUsed, name=TEXTS, dtype=st.sampled_from(["int64", "float32"]), shape=st.just(()))


def several(strategy):
    return st.lists(strategy, max_size=3).map(tuple)


RUNS = st.builds(
    Observation,
    model=st.sampled_from(["", "ema", "gone"]),
    runner=st.just("torch"),
    dtype=st.sampled_from(["", "float32", "float8_e5m2"]),
    verdict=st.sampled_from([*VERDICTS, "unheard of"]),
    why=TEXTS,
    flags=several(st.sampled_from(FLAGS)),
    effect=EFFECTS,
    noise_floor=EFFECTS,
    sizes=several(SIZES),
    outputs=several(OUTPUTS),
    inputs=several(INPUTS),
    first_divergence=st.none() | PLACES,
    combined_at=st.none() | PLACES,
    restored_by=NAMES,
    latent=several(PLACES),
    profile=several(st.builds(LayerEffect, path=TEXTS, effect=EFFECTS.map(lambda effect: effect or 0.0))),
    buffers_changed=NAMES,
    norm_buffers_changed=NAMES,
    fails_at_one=TEXTS,
    lost_at=several(st.sampled_from([1, 2, 8])),
    repeat_effect=EFFECTS,
    seed_effect=EFFECTS,
    second_call_effect=EFFECTS,
    rounding_only=EFFECTS,
    padding_effect=EFFECTS,
    norm_calls=st.none() | st.integers(-1, 3),
    unregistered_norms=several(PLACES),
    ungated_dropout=several(PLACES),
    drifting=NAMES,
    quantised_dynamically=st.booleans(),
)
FLOWS = several(
    st.builds(
        flow,
        st.sampled_from(["independent", "mixes", "position", "size", "undecided"]),
        TEXTS,
        st.none() | TEXTS,
        TEXTS,
        TEXTS,
        st.sampled_from(["", "ema"]),
    )
)
MARKS = several(st.builds(mark, st.sampled_from(["mixes", "quantises", "fixed-batch"]), TEXTS, TEXTS, TEXTS))


@settings(max_examples=120, deadline=None, derandomize=True)
@given(run=RUNS, flows=FLOWS, marks=MARKS, mode=st.sampled_from(Mode))
def test_odd_runs_end_in_findings(run, flows, marks, mode):
    audited = ran(
        batch_norm("bn", mode),
        onnx_norm("other", mode, model="ema"),
        run=run,
        facts=FLOW_FACTS | Facts.OBSERVATION | Facts.REGISTRY,
        batch_flow=flows,
        flow_marks=marks,
        random_calls=(random_call(),),
        graphs={"": declaring("n"), "ema": declaring(None)},
    )
    for rule in plugins.rules():
        found = outcome(rule, audited)
        assert found == NOT_CHECKED or all(len(finding.message) < 6000 for finding in found)
