"""Reports made by hand: what the reporters must show, whatever the readers and rules do."""

import math

from bn_audit.subject.finding import Confidence, Finding, Intent, Location, Severity
from bn_audit.subject.norm import Mode, ModeOrigin, NormKind, NormLayer
from bn_audit.subject.report import Audit, Failed, Report, Skipped
from bn_audit.subject.subject import Form, Model, OutputFlow
from bn_audit.subject.tensor import TensorRef

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
    ),
    listed=[(HOSTILE, HOSTILE)],
    exit_code=3,
)

ALL = {
    "train_mode": TRAIN_MODE,
    "batch_flow": BATCH_FLOW,
    "clean": CLEAN,
    "no_norms": NO_NORMS,
    "state_dict": STATE_DICT,
    "everything": EVERYTHING,
    "hostile_names": HOSTILE_NAMES,
}
