"""Subjects made by hand: what a rule must say about them is known from the outset."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence

from bn_audit.errors import TensorUnavailableError
from bn_audit.interfaces import Rule
from bn_audit.subject.finding import Finding
from bn_audit.subject.graph import Dim, Graph, GraphValue
from bn_audit.subject.norm import InputOrigin, Mode, ModeOrigin, NormKind, NormLayer, normalises_with_batch
from bn_audit.subject.observation import InputUsed, Observation, OutputResult, SizeResult
from bn_audit.subject.subject import Facts, FlowMark, Form, Model, OutputFlow, RandomCall, Subject
from bn_audit.subject.tensor import TensorRef

CODES = {"float32": "f", "float64": "d", "float16": "e", "int64": "q", "int32": "i", "bool": "?"}

MEAN = (0.25, -0.5, 1.5, -0.125)
VARIANCE = (0.5, 1.25, 0.03, 2.0)
WEIGHT = (1.0, 0.75, 0.5, 1.25)
BIAS = (0.125, -0.25, 0.5, 0.0625)

MODULE_FACTS = Facts.MODES | Facts.REGISTRY | Facts.SETTINGS | Facts.VALUES | Facts.GRADIENTS
GRAPH_FACTS = Facts.MODES | Facts.SETTINGS | Facts.VALUES | Facts.GRAPH
FLOW_FACTS = GRAPH_FACTS | Facts.BATCH_FLOW
STATE_DICT_FACTS = Facts.VALUES

NOT_CHECKED = "not checked"


def ref(values: Sequence[float], dtype: str = "float32", name: str = "tensor", shape: tuple[int, ...] | None = None):
    data = struct.pack(f"<{len(values)}{CODES[dtype]}", *values)
    return TensorRef(name=name, dtype=dtype, shape=(len(values),) if shape is None else shape, load=lambda: data)


def header(name: str, *shape: int) -> TensorRef:
    """A tensor of which only the header is known."""
    return TensorRef(name=name, dtype="float32", shape=shape, load=_unavailable)


def _unavailable() -> bytes:
    raise TensorUnavailableError("bn.running_var: lies on the meta device: save the model with its values")


def counter(batches: float, dtype: str = "int64") -> TensorRef:
    return ref([batches], dtype, name="num_batches_tracked", shape=())


def batch_norm(path: str = "bn", mode: Mode = Mode.EVAL, **changes: object) -> NormLayer:
    """A trained BatchNorm2d of four channels in a saved module, with the given changes."""
    kind = changes.get("kind", NormKind.BATCH_NORM)
    values: dict[str, object] = {
        "model": "",
        "path": path,
        "kind": kind,
        "type_name": "torch.nn.modules.batchnorm.BatchNorm2d",
        "mode": mode,
        "mode_origin": ModeOrigin.MODULE_FLAG,
        "num_features": 4,
        "eps": 1e-5,
        "momentum": 0.1,
        "affine": True,
        "track_running_stats": True,
        "weight": ref(WEIGHT),
        "bias": ref(BIAS),
        "running_mean": ref(MEAN),
        "running_var": ref(VARIANCE),
        "num_batches_tracked": counter(1000),
        "requires_grad": True,
        **changes,
    }
    has_statistics = values["running_mean"] is not None or values["running_var"] is not None
    values.setdefault(
        "uses_batch_statistics", normalises_with_batch(values["kind"], mode, running_statistics=has_statistics)
    )
    return NormLayer(**values)


def fresh(path: str = "bn", mode: Mode = Mode.EVAL, **changes: object) -> NormLayer:
    """A BatchNorm2d as torch creates it."""
    return batch_norm(
        path,
        mode,
        **{
            "weight": ref([1.0] * 4),
            "bias": ref([0.0] * 4),
            "running_mean": ref([0.0] * 4),
            "running_var": ref([1.0] * 4),
            "num_batches_tracked": counter(0),
            **changes,
        },
    )


def no_statistics(path: str = "bn", mode: Mode = Mode.EVAL, **changes: object) -> NormLayer:
    """A batch norm with ``track_running_stats=False``."""
    return batch_norm(
        path,
        mode,
        **{
            "running_mean": None,
            "running_var": None,
            "num_batches_tracked": None,
            "track_running_stats": False,
            **changes,
        },
    )


def stored_norm(path: str = "bn", **changes: object) -> NormLayer:
    """A batch norm as a state dict shows it."""
    return batch_norm(
        path,
        Mode.UNKNOWN,
        **{
            "mode_origin": ModeOrigin.NOT_RECORDED,
            "type_name": "",
            "eps": None,
            "momentum": None,
            "track_running_stats": None,
            "requires_grad": None,
            **changes,
        },
    )


def call(path: str, mode: Mode, origin: ModeOrigin, **changes: object) -> NormLayer:
    """A batch-norm call in a graph."""
    return batch_norm(
        path,
        mode,
        **{
            "mode_origin": origin,
            "type_name": "aten.batch_norm.default",
            "input_origin": InputOrigin.ACTIVATIONS,
            "requires_grad": None,
            "node": f"node_{path}",
            "track_running_stats": None,
            **changes,
        },
    )


def onnx_norm(
    path: str, mode: Mode = Mode.EVAL, origin: ModeOrigin = ModeOrigin.ONNX_ATTRIBUTE, **changes: object
) -> NormLayer:
    """A trained BatchNormalization node of an ONNX graph."""
    given = {"type_name": "ai.onnx.BatchNormalization-15", "input_origin": None, "num_batches_tracked": None}
    return call(path, mode, origin, **{**given, **changes})


def computed_norm(path: str, mode: Mode = Mode.EVAL, **changes: object) -> NormLayer:
    """A BatchNormalization node whose statistics the graph computes from the activations."""
    given = {"running_mean": None, "running_var": None, "input_origin": InputOrigin.ACTIVATIONS}
    return onnx_norm(path, mode, ModeOrigin.ONNX_COMPUTED, **{"uses_batch_statistics": True, **given, **changes})


def instance_norm(path: str = "norm", mode: Mode = Mode.EVAL, **changes: object) -> NormLayer:
    """An InstanceNorm2d as torch creates it by default: without statistics."""
    return no_statistics(
        path,
        mode,
        **{
            "kind": NormKind.INSTANCE_NORM,
            "type_name": "torch.nn.modules.instancenorm.InstanceNorm2d",
            **changes,
        },
    )


def frozen_norm(path: str = "bn", mode: Mode = Mode.TRAIN, **changes: object) -> NormLayer:
    """A FrozenBatchNorm2d with the statistics of Caffe2 weights: mean 0 and variance 1 - eps."""
    return batch_norm(
        path,
        mode,
        **{
            "kind": NormKind.FROZEN_BATCH_NORM,
            "type_name": "torchvision.ops.misc.FrozenBatchNorm2d",
            "running_mean": ref([0.0] * 4),
            "running_var": ref([1.0 - 1e-5] * 4),
            "num_batches_tracked": None,
            "requires_grad": None,
            **changes,
        },
    )


def dropout(path: str = "drop", *, probability: float | None = 0.5, live: bool | None = True, model: str = ""):
    return RandomCall(
        model=model,
        path=path,
        node=f"node_{path}",
        op="aten.dropout.default",
        is_dropout=True,
        probability=probability,
        live=live,
    )


def random_call(op: str = "aten.rand_like.default", *, live: bool | None = True) -> RandomCall:
    return RandomCall(model="", path="", node="node_rand", op=op, is_dropout=False, probability=None, live=live)


def subject(*norms: NormLayer, facts: Facts = MODULE_FACTS, **changes: object) -> Subject:
    """An artifact with these layers and one model for each route."""
    routes = dict.fromkeys([norm.model for norm in norms] or [""])
    models = tuple(Model(route=route, form=Form.MODULE) for route in routes)
    return Subject(source="model", format="test", facts=facts, norms=norms, **{"models": models, **changes})


def state_dict(*norms: NormLayer, **changes: object) -> Subject:
    return subject(*norms, facts=STATE_DICT_FACTS, **changes)


def graph(*norms: NormLayer, random_calls: tuple[RandomCall, ...] = (), **changes: object) -> Subject:
    return subject(*norms, facts=GRAPH_FACTS, random_calls=random_calls, **changes)


def flow(verdict: str, output: str = "y", node: str | None = None, path: str = "", why: str = "", model: str = ""):
    """The verdict of the batch-flow proof on one output."""
    return OutputFlow(model=model, output=output, verdict=verdict, node=node, path=path, why=why)


def mark(kind: str, node: str, path: str = "", why: str = "", model: str = "") -> FlowMark:
    """A node that the batch-flow proof found remarkable."""
    return FlowMark(model=model, kind=kind, node=node, path=path, why=why)


def declaring(*batches: Dim, versions: dict[str, int] | None = None) -> Graph:
    """A graph whose inputs declare these batch sizes."""
    inputs = tuple(GraphValue(name=f"x{index}", shape=(size, 8)) for index, size in enumerate(batches))
    return Graph(dialect="onnx", versions=versions or {}, inputs=inputs)


def followed(
    *norms: NormLayer,
    flows: tuple[OutputFlow, ...] = (),
    marks: tuple[FlowMark, ...] = (),
    batch: Dim = "batch",
    **changes: object,
) -> Subject:
    """A graph with this batch at its one input, and what the proof says about it."""
    given: dict[str, object] = {"graphs": {"": declaring(batch)}, "facts": FLOW_FACTS}
    return subject(*norms, batch_flow=flows, flow_marks=marks, **{**given, **changes})


def observation(verdict: str = "independent", **changes: object) -> Observation:
    """What a full run at 1, 2, 3 and 8 samples showed: nothing but rounding, unless changed."""
    sizes = tuple(SizeResult(batch_size=size, max_rel=0.0 if size == 8 else 3e-7) for size in (1, 2, 3, 8))
    given: dict[str, object] = {
        "runner": "torch",
        "dtype": "float32",
        "noise_floor": 4e-6,
        "sizes": sizes,
        "outputs": (OutputResult(name="y", dtype="float32", shape=(8, 10), max_rel=3e-7, top1_changes=0),),
        "inputs": (InputUsed(name="x", dtype="float32", shape=(3, 64, 64)),),
        "rounding_only": 3e-7,
        "repeat_effect": 0.0,
        "seed_effect": 0.0,
        "second_call_effect": 0.0,
        "padding_effect": 0.0,
        "norm_calls": 2,
        "registered_norms": 2,
        "why": "12 exchanges of the companions moved no bit",
    }
    return Observation(verdict=verdict, **{**given, **changes})


def ran(*norms: NormLayer, run: Observation | None = None, facts: Facts = MODULE_FACTS, **changes: object) -> Subject:
    """An artifact that was run."""
    return subject(*norms, facts=facts | Facts.OBSERVATION, observation=run or observation(), **changes)


def outcome(rule: Rule, audited: Subject) -> list[Finding] | str:
    """What the pipeline would get: findings, an empty list for silence, or NOT_CHECKED."""
    if not rule.concerns(audited):
        return []
    if rule.lacks(audited.facts):
        return NOT_CHECKED
    findings = list(rule.check(audited))
    for finding in findings:
        assert finding.code == rule.code
        assert finding.message == finding.message.strip().rstrip("."), finding.message
        assert finding.remedy
        json.dumps(finding.evidence, allow_nan=False)
    for reason in rule.open_questions(audited):
        assert reason == reason.strip().rstrip("."), reason
    return findings


def only(rule: Rule, audited: Subject) -> Finding:
    """The one finding that is expected."""
    findings = outcome(rule, audited)
    assert len(findings) == 1, findings
    return findings[0]


def paths(finding: Finding) -> list[str]:
    return [location.path for location in finding.locations]
