"""Whatever a file holds, a rule gives findings or says that a tensor could not be read; it never fails otherwise."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from rule_subjects import (
    MEAN,
    VARIANCE,
    batch_norm,
    counter,
    declaring,
    dropout,
    header,
    outcome,
    random_call,
    ref,
    subject,
)

from bn_audit import plugins
from bn_audit.alignment.claims import match_frozen
from bn_audit.alignment.whole import compare_subjects
from bn_audit.errors import ArtifactError, UnrelatedError
from bn_audit.subject.finding import Confidence
from bn_audit.subject.key_alignment import KeyAlignment, KeyMatch, KeyMismatch
from bn_audit.subject.norm import InputOrigin, Mode, ModeOrigin, NormKind
from bn_audit.subject.scope import ValueScope
from bn_audit.subject.subject import Facts, FlowMark, Form, Model, OrphanTensors, OutputFlow, Subject
from bn_audit.subject.tensor import TensorRef

ODD_NUMBERS = (0.0, -0.0, 1.0, -1.0, 1e-45, 5e-324, 1e-5, 1e300, 2.0**-23, math.nan, math.inf, -math.inf)

TENSORS = st.sampled_from(
    [
        None,
        ref([]),
        ref([0.5]),
        ref(MEAN),
        ref(VARIANCE),
        ref([0.0] * 4),
        ref([1.0] * 4),
        ref([math.nan] * 4),
        ref([math.inf, -math.inf, math.nan, 0.0]),
        ref([-1.0, -1.0, 0.0, 1.0]),
        ref([1e308, 1e308, 1e308, 1e308], "float64"),
        ref([0.0, 1e-7, 65504.0, 1.0], "float16"),
        ref([2**62, -(2**62), 0, 1], "int64"),
        ref([True, False, True, True], "bool"),
        ref([0.5] * 9),
        ref([0.5] * 4, shape=(1, 4, 1, 1)),
        TensorRef(name="t", dtype="complex64", shape=(4,), load=lambda: bytes(32)),
        TensorRef(name="t", dtype="uint64", shape=(4,), load=lambda: b"\xff" * 32),
        TensorRef(name="t", dtype="float8_e4m3fn", shape=(4,), load=lambda: b"\x00\x7f\x80\xff"),
        header("t", 4),
        header("t"),
    ]
)
COUNTERS = st.sampled_from(
    [None, counter(0), counter(3), counter(-1), counter(math.nan, "float32"), ref([1, 2], "int64")]
)
NUMBERS = st.none() | st.sampled_from(ODD_NUMBERS) | st.floats()
FLAGS = st.none() | st.booleans()
KEYS = st.lists(
    st.sampled_from(["bn.weight", "bn.num_batches_tracked", "num_batches_tracked", "", ".", "a.b.running_var"]),
    max_size=4,
    unique=True,
).map(tuple)

NORMS = st.builds(
    lambda path, mode, **changes: batch_norm(path, mode, **changes),
    st.sampled_from(["", "bn", "module.bn", "\x1b[2J\n"]),
    st.sampled_from(Mode),
    model=st.sampled_from(["", "model", "ema"]),
    kind=st.sampled_from(NormKind),
    mode_origin=st.sampled_from(ModeOrigin),
    uses_batch_statistics=FLAGS,
    num_features=st.sampled_from([None, 0, -1, 4, 10**30]),
    eps=NUMBERS,
    momentum=NUMBERS,
    track_running_stats=FLAGS,
    weight=TENSORS,
    bias=TENSORS,
    running_mean=TENSORS,
    running_var=TENSORS,
    num_batches_tracked=COUNTERS,
    requires_grad=FLAGS,
    registered=st.booleans(),
    uninitialised=st.booleans(),
    input_origin=st.none() | st.sampled_from(InputOrigin),
    confidence=st.sampled_from(Confidence),
    contradiction=st.sampled_from([None, "", "\x1b[2J", "3 outputs"]),
    node=st.sampled_from([None, "", "node_bn"]),
)
ROUTES = st.sampled_from(["", "model", "gone"])
NODES = st.sampled_from(["", "node_bn", "Softmax_1", "\x1b[2J\n"])
TEXTS = st.sampled_from(["", "bn", ".", "\x1b[2J\n", "over the batch."])
FLOWS = st.builds(
    OutputFlow,
    model=ROUTES,
    output=TEXTS,
    verdict=st.sampled_from(["independent", "mixes", "position", "size", "undecided", "unheard of"]),
    node=st.none() | NODES,
    path=TEXTS,
    why=TEXTS,
)
MARKS = st.builds(
    FlowMark,
    model=ROUTES,
    kind=st.sampled_from(["mixes", "quantises", "fixed-batch", "position", "size", "unheard of"]),
    node=NODES,
    path=TEXTS,
    why=TEXTS,
)
GRAPHS = st.dictionaries(ROUTES, st.lists(st.sampled_from([0, 1, -1, 6, "n", None]), max_size=2), max_size=2).map(
    lambda found: {route: declaring(*sizes, versions={"": len(sizes)}) for route, sizes in found.items()}
)
ORPHANS = st.builds(
    OrphanTensors,
    model=st.sampled_from(["", "model", "gone"]),
    path=st.sampled_from(["", "1", "bn", "ln"]),
    weight=st.sampled_from([header("1.weight", 4), header("weight"), header("w", 0)]),
    bias=st.none() | st.just(header("1.bias", 4)),
    evidence=st.none() | st.just("its name is that of a batch norm"),
)
MODELS = tuple(
    Model(
        route=route,
        form=Form.STATE_DICT,
        averaged=route == "ema",
        tensors=(header("0.weight", 4, 3, 3, 3), header("1.weight", 4), header("weight"), header("", 1)),
    )
    for route in ("", "model", "ema")
)
LOADINGS = st.builds(
    KeyAlignment,
    reference=st.just("the model"),
    target=st.just("w.pt"),
    matched=KEYS.map(lambda keys: tuple(KeyMatch(reference=key, target=key) for key in keys)),
    missing=KEYS,
    unexpected=KEYS,
    mismatched=KEYS.map(
        lambda keys: tuple(
            KeyMismatch(reference=key, target=key, difference="float16", is_shape=not key) for key in keys
        )
    ),
    target_prefix=st.sampled_from(["", "module."]),
    foreign=KEYS,
    complete=st.booleans(),
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    norms=st.lists(NORMS, max_size=5),
    orphans=st.lists(ORPHANS, max_size=3),
    calls=st.lists(
        st.sampled_from([dropout(), dropout(probability=math.nan), dropout(live=None), random_call(), random_call("")]),
        max_size=3,
    ),
    loading=st.none() | LOADINGS,
    flows=st.lists(FLOWS, max_size=4),
    marks=st.lists(MARKS, max_size=4),
    graphs=GRAPHS,
    facts=st.sampled_from([Facts.NONE, Facts.VALUES, ~Facts.REFERENCE]),
)
def test_odd_subjects_end_in_findings_or_in_a_stated_reason(
    norms, orphans, calls, loading, flows, marks, graphs, facts
):
    audited = subject(
        *norms,
        facts=facts,
        models=MODELS,
        orphans=tuple(orphans),
        random_calls=tuple(calls),
        loading=loading,
        batch_flow=tuple(flows),
        flow_marks=tuple(marks),
        graphs=graphs,
    )
    judge(audited)


def judge(audited: Subject) -> None:
    for rule in plugins.rules():
        try:
            outcome(rule, audited)
        except ArtifactError as error:
            assert str(error)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    reference=st.lists(NORMS, max_size=4),
    target=st.lists(NORMS, max_size=4),
    scope=st.sampled_from(ValueScope),
    routes=st.tuples(st.sampled_from([1, 2, 3]), st.sampled_from([1, 2, 3])),
    patterns=st.lists(st.sampled_from(["*", "bn", "gone.*", "[", "module.bn"]), max_size=2),
)
def test_odd_subjects_compare_or_say_why_not(reference, target, scope, routes, patterns):
    one = subject(*reference, models=MODELS[: routes[0]])
    other = subject(*target, models=MODELS[: routes[1]])
    other = replace(other, frozen=match_frozen(other, patterns))
    try:
        comparison = compare_subjects(one, other, scope=scope)
    except UnrelatedError as error:
        assert "in common" in str(error)
        return
    assert comparison.detached().drift == comparison.drift
    judge(replace(other, comparison=comparison, facts=other.facts | Facts.REFERENCE))
