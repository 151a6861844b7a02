"""Reports made by hand: what the reporters must show, whatever the readers and rules do."""

import math
from datetime import date

from bn_audit.subject.comparison import (
    Comparison,
    FoldCheck,
    FrozenPattern,
    LayerPair,
    ModelPair,
    NotCompared,
    PairedBy,
    ValueComparison,
    ValueMismatch,
)
from bn_audit.subject.design import Design
from bn_audit.subject.drift import Change, Extreme, LayerDrift
from bn_audit.subject.finding import Confidence, Finding, Intent, Location, Severity
from bn_audit.subject.key_alignment import KeyAlignment, KeyMatch, KeyMismatch
from bn_audit.subject.norm import Mode, ModeOrigin, NormKind, NormLayer
from bn_audit.subject.report import Audit, Failed, Report, Skipped
from bn_audit.subject.rule_description import RuleDescription
from bn_audit.subject.scope import ValueScope
from bn_audit.subject.subject import Form, Model, OutputFlow
from bn_audit.subject.tensor import TensorRef
from bn_audit.subject.waiver import KnownFinding, WaivedFinding, Waiver

HOSTILE = "\x1b[2J\x1b]0;owned\x07bn\r\n::error::[red]x[/red]\u202egp\udc80\x9b31m"
"""What a file may call a layer: escape codes, new lines, a CI command, markup, reversed text, a lone surrogate."""


def tensor(name: str, shape: tuple[int, ...] = (4,), data: bytes = b"", dtype: str = "float32") -> TensorRef:
    return TensorRef(name=name, dtype=dtype, shape=shape, load=lambda: data)


def norm(path: str, mode: Mode = Mode.EVAL, **changes) -> NormLayer:
    values = {
        "model": "",
        "path": path,
        "kind": NormKind.BATCH_NORM,
        "type_name": "torch.nn.modules.batchnorm.BatchNorm2d",
        "mode": mode,
        "mode_origin": ModeOrigin.MODULE_FLAG,
        "uses_batch_statistics": {Mode.EVAL: False, Mode.TRAIN: True}.get(mode),
        "num_features": 4,
        "eps": 1e-5,
        "momentum": 0.1,
        "affine": True,
        "track_running_stats": True,
        "weight": tensor(f"{path}.weight"),
        "bias": tensor(f"{path}.bias"),
        "running_mean": tensor(f"{path}.running_mean"),
        "running_var": tensor(f"{path}.running_var"),
        "num_batches_tracked": tensor(f"{path}.num_batches_tracked", (), (1234).to_bytes(8, "little"), dtype="int64"),
    }
    return NormLayer(**(values | changes))


def finding(code: str = "BN101", severity: Severity = Severity.ERROR, **changes) -> Finding:
    values = {
        "code": code,
        "name": "train-mode",
        "severity": severity,
        "confidence": Confidence.HIGH,
        "message": "2 of 2 batch norms are in training mode",
        "remedy": "Call model.eval() before saving.",
        "locations": (Location(path="bn1"), Location(path="bn2")),
        "evidence": {},
    }
    return Finding(**(values | changes))


def report(source: str = "model.pt", **changes) -> Report:
    values = {
        "source": source,
        "format": "torch-checkpoint",
        "intent": Intent.DEPLOY,
        "size_bytes": 21_504,
        "bytes_read": 4_096,
        "models": (Model(route="", form=Form.MODULE, type_name="shop.vision.Classifier", mode=Mode.EVAL),),
        "norms": (norm("bn1"), norm("bn2")),
    }
    return Report(**(values | changes))


def audit(*reports: Report, exit_code: int = 0, fail_on: Severity = Severity.ERROR, listed=()) -> Audit:
    return Audit(reports=reports, intent=Intent.DEPLOY, fail_on=fail_on, exit_code=exit_code, listed=tuple(listed))


TRAIN_MODE = audit(
    report(
        models=(Model(route="", form=Form.MODULE, type_name="shop.vision.Classifier", mode=Mode.TRAIN),),
        norms=(norm("bn1", Mode.TRAIN), norm("bn2", Mode.TRAIN)),
        findings=(finding(),),
    ),
    exit_code=1,
)

CLEAN = audit(report())

NO_NORMS = audit(report(norms=()))

STATE_DICT = audit(
    report(
        models=(Model(route="", form=Form.STATE_DICT),),
        norms=tuple(
            norm(path, Mode.UNKNOWN, eps=None, momentum=None, affine=None, track_running_stats=None)
            for path in ("bn1", "bn2")
        ),
        findings=(
            finding(
                "BN111",
                Severity.NOTE,
                name="mode-not-recorded",
                message="this artifact records no train/eval mode for its 2 batch norms",
                remedy="Audit what is deployed as well, or the factory: bn-audit check package.module:factory.",
                locations=(),
            ),
        ),
        skipped=(
            Skipped(code="BN101", reason="the artifact records no train/eval mode"),
            Skipped(code="BN102", reason="the artifact records no train/eval mode"),
            Skipped(code="BN209", reason="the artifact records no eps, momentum or flags"),
        ),
    )
)

EVERYTHING = audit(
    report(
        "runs/7/checkpoint.ckpt",
        size_bytes=241_690_553,
        models=(
            Model(route="model", form=Form.MODULE, type_name="torchvision.models.resnet.ResNet", mode=Mode.EVAL),
            Model(route="ema", form=Form.STATE_DICT, averaged=True),
        ),
        norms=(
            *(norm(f"layer{a}.{b}.bn{c}", Mode.EVAL, model="model") for a in (1, 2) for b in (0, 1) for c in (1, 2)),
            norm("head.bn", Mode.TRAIN, model="model", momentum=None, cumulative=True),
            norm("head.inorm", Mode.TRAIN, model="model", kind=NormKind.INSTANCE_NORM, uses_batch_statistics=False),
            norm("bn", Mode.UNKNOWN, model="ema", eps=math.nan, momentum=math.inf),
        ),
        findings=(
            finding(
                "BN111",
                Severity.NOTE,
                name="mode-not-recorded",
                message="the state dict records no train/eval mode",
                remedy="Audit the module too.",
                locations=(Location(model="ema", path="bn"),),
            ),
            finding(
                "BN102",
                name="mixed-mode",
                message="1 of 9 batch norms trains, 8 evaluate",
                locations=(Location(model="model", path="head.bn"),),
            ),
            finding(
                "BN205",
                name="non-finite-statistics",
                message="running_var holds NaN in 8 layers, from a step that overflowed",
                confidence=Confidence.MEDIUM,
                locations=(
                    *(
                        Location(model="model", path=f"layer{a}.{b}.bn{c}", tensor=f"layer{a}.{b}.bn{c}.running_var")
                        for a in (1, 2)
                        for b in (0, 1)
                        for c in (1, 2)
                    ),
                    Location(model="ema", path="bn", tensor="bn.running_var"),
                ),
                evidence={"largest": math.inf, "values": [1.5, math.nan], "by_layer": {"bn": -math.inf}},
                remedy="Take an earlier checkpoint or compute them anew with torch.optim.swa_utils.update_bn.",
            ),
            finding(
                "BN314",
                Severity.WARNING,
                name="sync-batchnorm-deployed",
                message="SyncBatchNorm needs a process group at inference",
                remedy="Convert it to BatchNorm.",
                locations=tuple(
                    Location(model="model", path=f"{name}.{n}") for name in ("a", "b", "c", "d", "e") for n in range(12)
                ),
            ),
        ),
        skipped=(Skipped(code="BN308", reason="the artifact records no operators"),),
        failed=(Failed(stage="BN211", error="runs/7/checkpoint.ckpt: counter is no number", traceback="Trace\n  a\n"),),
        unread=("optimizer_states: optimizer state", "callbacks: no model in it"),
    ),
    report("broken.pt", format=None, models=(), norms=(), failed=(Failed(stage="read", error="broken.pt: is empty"),)),
    report("good.pt"),
    listed=[("runs/7/optimizer.pt", "optimizer state"), ("runs/7/notes.bin", "text")],
    exit_code=3,
)

BATCH_FLOW = audit(
    report(
        "model.onnx",
        format="onnx",
        models=(Model(route="", form=Form.GRAPH, type_name="main_graph", mode=Mode.EVAL),),
        batch_flow=(
            OutputFlow(model="", output="logits", verdict="independent"),
            OutputFlow(model="", output="features", verdict="independent"),
            OutputFlow(
                model="",
                output="similarity",
                verdict="mixes",
                node="/head/MatMul",
                path="head",
                why="MatMul combines samples 0 and 1",
            ),
            OutputFlow(model="", output="boxes", verdict="undecided", node="/nms", why="NonZero depends on the data"),
        ),
        flow_seconds=0.25,
    ),
)


def extreme(size: float, channel: int = 3, beyond: int = 2, **changes) -> Extreme:
    values = {"reference": 0.5, "target": 0.25, "tolerance": 1e-5}
    return Extreme(size=size, channel=channel, beyond=beyond, **(values | changes))


def drift(path: str, mean: float = 0.0, variance: float = 0.0, affine: float = 0.0, **changes) -> LayerDrift:
    values = {
        "reference": path,
        "location": Location(path=path),
        "num_features": 4,
        "mean": extreme(mean, beyond=2 * (mean > 0)),
        "variance": extreme(variance, channel=1, beyond=int(variance > 0)),
        "weight": extreme(affine, channel=0, beyond=int(affine > 0)),
        "bias": extreme(affine / 2, channel=2, beyond=int(affine > 0)),
        "eps": Change(reference=1e-5, target=1e-5),
        "momentum": Change(reference=0.1, target=None),
        "counter": Change(reference=10, target=20),
        "rms_mean": mean / 2,
        "rms_variance": variance / 2,
        "equal_statistics": not (mean or variance),
        "equal_affine": not affine,
    }
    return LayerDrift(**(values | changes))


def pair(path: str, to: str | None = None, **changes) -> LayerPair:
    values = {"reference": norm(path), "target": norm(to or path), "paired_by": PairedBy.PATH}
    return LayerPair(**(values | changes))


def comparison(**changes) -> Comparison:
    values = {
        "reference": "before.pt",
        "reference_format": "torch-checkpoint",
        "target": "after.pt",
        "models": (ModelPair(reference="", target=""),),
        "pairs": (pair("bn1"), pair("bn2")),
        "added": (),
        "keys": (
            KeyAlignment(
                reference="before.pt",
                target="after.pt",
                matched=tuple(KeyMatch(reference=f"bn{n}.weight", target=f"bn{n}.weight") for n in (1, 2)),
            ),
        ),
        "drift": (drift("bn1"), drift("bn2")),
        "values": ValueComparison(scope=ValueScope.ALL, compared=("conv.weight",), elements=1728),
        "reference_size_bytes": 97_800_000,
        "reference_bytes_read": 123_456,
    }
    return Comparison(**(values | changes))


MATCHING = audit(report("after.pt", comparison=comparison(), comparison_only=True))

DRIFTED = audit(
    report(
        "after.onnx",
        format="onnx",
        models=(Model(route="", form=Form.GRAPH),),
        findings=(
            finding(
                "BN602",
                name="frozen-statistics-moved",
                message="2 of 14 layers claimed frozen moved: layer1.0.bn1 by 3.21 standard deviations in channel 3",
                locations=(Location(path="layer1.0.bn1"), Location(path="layer1.1.bn1")),
            ),
            finding(
                "BN313",
                name="fold-mismatch",
                message="1 of 3 folded layers does not follow from the reference (tolerance 1e-05)",
                locations=(Location(path="head.bn", tensor="onnx::Conv_42"),),
            ),
        ),
        comparison=comparison(
            target="after.onnx",
            models=(ModelPair(reference="state.model", target=""),),
            pairs=(
                *(pair(f"layer1.{n}.bn1") for n in range(14)),
                pair("stem.bn", "/stem/bn/BatchNormalization", paired_by=PairedBy.CONTENTS),
                pair(
                    "head.bn",
                    target=None,
                    paired_by=PairedBy.FOLD,
                    fold=FoldCheck(
                        weight="head.conv.weight",
                        into="onnx::Conv_42",
                        holds=False,
                        eps=1e-5,
                        tolerance=1e-5,
                        deviation=0.37,
                        channel=11,
                        channels=5,
                        why="the scale of 5 of 64 channels differs, as from other statistics",
                    ),
                ),
                pair(
                    "neck.bn",
                    target=None,
                    paired_by=PairedBy.FOLD,
                    fold=FoldCheck(
                        weight="neck.conv.weight",
                        into="onnx::Conv_43",
                        holds=True,
                        eps=1e-3,
                        eps_inferred=True,
                        tolerance=1e-5,
                        deviation=2e-7,
                        channel=0,
                    ),
                ),
                pair("old.bn", target=None, paired_by=None),
            ),
            added=(norm("extra.bn"),),
            keys=(
                KeyAlignment(
                    reference="before.pt",
                    target="after.onnx",
                    reference_route="state.model",
                    matched=(
                        KeyMatch(reference="module.conv.weight", target="conv.weight"),
                        *(
                            KeyMatch(reference=f"module.layer1.{n}.bn1.gamma", target=f"bn{n}.weight", renamed=True)
                            for n in range(14)
                        ),
                    ),
                    missing=("old.bn.weight", "old.bn.running_mean"),
                    unexpected=("extra.bn.weight",),
                    mismatched=(
                        KeyMismatch(
                            reference="fc.weight",
                            target="fc.weight",
                            difference="shape [10, 64], the model has [1000, 64]",
                            is_shape=True,
                        ),
                    ),
                    reference_prefix="module.",
                    foreign=("gamma",),
                ),
            ),
            drift=(
                drift("layer1.0.bn1", mean=3.21, variance=0.405),
                *(drift(f"layer1.{n}.bn1", mean=n / 100) for n in range(1, 14)),
                drift(
                    "stem.bn", eps=Change(reference=1e-5, target=1e-3), dtype_change=("running_var: float32 to half",)
                ),
                drift("swap.bn", mean=math.inf, swapped=True),
                LayerDrift(reference="meta.bn", location=Location(path="meta.bn"), num_features=4),
            ),
            values=ValueComparison(
                scope=ValueScope.BATCH_NORM,
                mismatched=(
                    ValueMismatch(
                        reference="fc.bias",
                        target="fc.bias",
                        size=0.5,
                        index=7,
                        channel=7,
                        reference_value=1.0,
                        target_value=1.5,
                        beyond=1,
                        tolerance=1e-6,
                    ),
                ),
                not_compared=(
                    *(
                        NotCompared(what=f"layer1.{n}.conv1.weight", reason="--values bn does not read it")
                        for n in range(14)
                    ),
                    NotCompared(what="meta.bn", reason="a tensor on the meta device has no values"),
                ),
            ),
            remarks=("shop.vision:make_model built on the meta device, without values",),
        ),
        frozen=(FrozenPattern(pattern="layer1.*", layers=(Location(path="layer1.0.bn1"),), tensors=("a", "b")),),
        comparison_only=True,
    ),
    exit_code=1,
)

HOSTILE_COMPARISON = comparison(
    reference=HOSTILE,
    reference_format=HOSTILE,
    models=(ModelPair(reference=HOSTILE, target=HOSTILE),),
    pairs=(
        pair(HOSTILE),
        pair(HOSTILE, paired_by=None),
        pair(
            HOSTILE,
            paired_by=PairedBy.FOLD,
            fold=FoldCheck(weight=HOSTILE, into=HOSTILE, holds=False, eps=math.nan, why=HOSTILE, deviation=math.inf),
        ),
    ),
    added=(norm(HOSTILE),),
    keys=(
        KeyAlignment(
            reference=HOSTILE,
            target=HOSTILE,
            matched=(KeyMatch(reference=HOSTILE, target=HOSTILE, renamed=True),),
            missing=(HOSTILE,),
            unexpected=(HOSTILE,),
            mismatched=(KeyMismatch(reference=HOSTILE, target=HOSTILE, difference=HOSTILE, is_shape=True),),
            reference_prefix=HOSTILE,
            target_prefix=HOSTILE,
            foreign=(HOSTILE,),
        ),
    ),
    drift=(drift(HOSTILE, mean=math.nan, dtype_change=(HOSTILE,)), drift(HOSTILE, mean=-math.inf)),
    values=ValueComparison(
        scope=ValueScope.ALL,
        compared=(HOSTILE,),
        mismatched=(
            ValueMismatch(
                reference=HOSTILE,
                target=HOSTILE,
                size=math.inf,
                index=0,
                channel=0,
                reference_value=math.nan,
                target_value=-math.inf,
                beyond=1,
                tolerance=0.0,
            ),
        ),
        not_compared=(NotCompared(what=HOSTILE, reason=HOSTILE),),
    ),
    remarks=(HOSTILE,),
)

HOSTILE_NAMES = audit(
    report(
        HOSTILE,
        models=(Model(route=HOSTILE, form=Form.MODULE, type_name=HOSTILE, mode=Mode.EVAL),) * 2,
        norms=(norm(HOSTILE, model=HOSTILE, type_name=HOSTILE),),
        findings=(
            finding(
                message=HOSTILE,
                remedy=HOSTILE,
                locations=(Location(model=HOSTILE, path=HOSTILE, tensor=HOSTILE, node=HOSTILE),),
                evidence={HOSTILE: HOSTILE},
            ),
        ),
        skipped=(Skipped(code="BN308", reason=HOSTILE),),
        failed=(Failed(stage="BN211", error=HOSTILE, traceback=HOSTILE),),
        unread=(HOSTILE,),
        batch_flow=(
            OutputFlow(model=HOSTILE, output=HOSTILE, verdict="mixes", node=HOSTILE, path=HOSTILE, why=HOSTILE),
        ),
        comparison=HOSTILE_COMPARISON,
        frozen=(FrozenPattern(pattern=HOSTILE, layers=(Location(path=HOSTILE),), tensors=(HOSTILE,)),),
    ),
    listed=[(HOSTILE, HOSTILE)],
    exit_code=3,
)

RULES = (
    RuleDescription(
        code="BN101",
        name="train-mode",
        summary="batch norm saved in training mode",
        severity=Severity.ERROR,
        remedy="Call model.eval() before saving.",
        documentation=(
            "Batch norms were saved in training mode.\n\n"
            "What it checks: the flag of every batch norm, as `training` says,\n    on two lines.\n"
            "Why it matters: the layers [all of them] use the batch's statistics <and> move *theirs*.\n"
            "Example:\n    import torch\n    if True:\n        torch.save(model, path)  # BN101\n"
            "Sources: torch.nn.Module.train, _BatchNorm."
        ),
    ),
    RuleDescription(
        code="BN205",
        name="non-finite-statistics",
        summary="NaN or infinity",
        severity=Severity.ERROR,
        remedy="Train again.",
        documentation="NaN or infinity was saved.",
    ),
    RuleDescription(
        code="BN504",
        name="live-randomness-in-graph",
        summary="live dropout",
        severity=Severity.ERROR,
        remedy="Export again.",
        documentation="Dropout is live.",
    ),
)

ACCEPTED = Audit(
    reports=(
        report(
            "models/gan.pt",
            checked=("BN101", "BN205", "BN504"),
            waived=(
                WaivedFinding(
                    finding=finding(),
                    reason="pix2pix does so by design",
                    intent=Design.BATCH_STATISTICS,
                ),
                WaivedFinding(
                    finding=finding("BN504", name="live-randomness-in-graph", message="1 dropout call is live"),
                    reason="until the next export",
                    expires=date(2031, 12, 31),
                ),
            ),
            baselined=(finding("BN205", name="non-finite-statistics", message="running_var holds NaN"),),
        ),
    ),
    intent=Intent.DEPLOY,
    fail_on=Severity.ERROR,
    exit_code=0,
    rules=RULES,
    unused_waivers=(Waiver(codes=("BN103",), reason="an old experiment", origin="pyproject.toml: waiver 3"),),
    resolved=(KnownFinding(source="models/gan.pt", code="BN207", model="ema", place="head.bn"),),
)

ALL = {
    "train_mode": TRAIN_MODE,
    "batch_flow": BATCH_FLOW,
    "matching": MATCHING,
    "drifted": DRIFTED,
    "clean": CLEAN,
    "no_norms": NO_NORMS,
    "state_dict": STATE_DICT,
    "everything": EVERYTHING,
    "hostile_names": HOSTILE_NAMES,
    "accepted": ACCEPTED,
}
