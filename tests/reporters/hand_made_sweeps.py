"""Audits with a run of the model, made by hand: what the reporters must show of it."""

import math

from hand_made import HOSTILE, audit, finding, norm, report

from bn_audit.subject.finding import Location
from bn_audit.subject.norm import Mode
from bn_audit.subject.observation import (
    CANNOT_RUN,
    CONTENT,
    INCONCLUSIVE,
    INDEPENDENT,
    MUTATES_STATE,
    RNG,
    SIZE,
    STATEFUL,
    InputUsed,
    LayerEffect,
    Observation,
    OutputResult,
    Place,
    SizeResult,
)
from bn_audit.subject.report import Failed

ENVIRONMENT = {"torch": "2.13.0+cpu", "python": "3.11.2"}


def size(batch_size: int, effect: float | None = 0.0, **changes) -> SizeResult:
    values = {
        "batch_size": batch_size,
        "max_abs": None if effect is None else effect * 7.5,
        "max_rel": effect,
        "top1_changes": 0,
        "seconds": 0.004 + 0.003 * batch_size,
        "samples": () if effect is None else tuple(effect / (1 + index) for index in range(batch_size)),
    }
    return SizeResult(**(values | changes))


def observation(**changes) -> Observation:
    values = {
        "runner": "torch-module",
        "dtype": "float32",
        "threads": 2,
        "verdict": INDEPENDENT,
        "why": "27 swaps of companions moved no bit; sizes differ by less than ten times the response to a jitter",
        "noise_floor": 1.3e-6,
        "reference_size": 8,
        "sizes": (size(1, 3.1e-7), size(2, 2.4e-7), size(3, 2.2e-7), size(8)),
        "inputs": (InputUsed(name="x", dtype="float32", shape=(3, 224, 224), origin="Conv2d 'stem', drawn at random"),),
        "outputs": (OutputResult(name="output", dtype="float32", shape=(8, 1000), max_rel=3.1e-7, max_abs=2.3e-6),),
        "mode_gap": 0.41,
        "forwards": 26,
        "seconds": 3.14159,
        "environment": ENVIRONMENT,
        "command": "bn-audit sweep model.pt --trust --batch-sizes 1,2,3,8 --seed 0",
    }
    return Observation(**(values | changes))


def layers(count: int, first: int, effect: float = 0.13) -> tuple[LayerEffect, ...]:
    """Return blocks of a convolution, a norm and an activation; samples meet from layer `first` on."""
    made = []
    for index in range(count):
        path, kind = f"layer{index // 12}.{index // 3 % 4}", ("conv", "bn", "act")[index % 3]
        type_name = {"conv": "Conv2d", "bn": "BatchNorm2d", "act": "ReLU"}[kind]
        moved = 0.0 if index < first else effect * (1 + 0.5 * math.sin(index))
        made.append(LayerEffect(path=f"{path}.{kind}", effect=moved, type_name=type_name, is_norm=kind == "bn"))
    return tuple(made)


def norms_of(profile: tuple[LayerEffect, ...], trained: tuple[str, ...] = ()) -> tuple:
    paths = [layer.path for layer in profile if layer.is_norm]
    return tuple(norm(path, Mode.TRAIN if path in trained else Mode.EVAL) for path in paths)


PROFILE = layers(48, first=16)

INDEPENDENT_RUN = audit(report(observation=observation()))

COMPANIONS = audit(
    report(
        norms=norms_of(PROFILE, trained=("layer1.1.bn",)),
        findings=(
            finding(
                "BN401",
                name="depends-on-companions",
                message="a sample's answer changes with its companions by up to 13.2 % (measured)",
                locations=(Location(path="layer1.1.bn"),),
                remedy="Put layer1.1.bn into evaluation mode before saving.",
            ),
        ),
        observation=observation(
            verdict=CONTENT,
            why="12 of 12 swaps of companions moved the probe, with the same operators running in the same order",
            flags=(MUTATES_STATE,),
            effect=0.132,
            sizes=(
                size(1, 0.731, top1_changes=1),
                size(2, 0.31, top1_changes=1),
                size(3, 0.132, top1_changes=1),
                size(8, 0.0),
                size(16, 0.0871, top1_changes=3),
            ),
            first_divergence=Place(
                path="layer1.1.bn",
                type_name="torch.nn.modules.batchnorm.BatchNorm2d",
                op="aten.native_batch_norm.default",
            ),
            restored_by=("layer1.1.bn",),
            profile=PROFILE,
            buffers_changed=tuple(
                f"layer1.1.bn.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")
            ),
            norm_buffers_changed=("layer1.1.bn.running_mean", "layer1.1.bn.running_var"),
            outputs=(
                OutputResult(
                    name="output", dtype="float32", shape=(16, 1000), max_rel=0.731, max_abs=5.5, top1_changes=6
                ),
            ),
        ),
    ),
    exit_code=1,
)

CRASHED = audit(
    report(
        "model.onnx",
        format="onnx",
        failed=(Failed(stage="run", error="the backend crashed (SIGSEGV) while running batch size 1"),),
        observation=observation(
            runner="onnxruntime",
            verdict=CANNOT_RUN,
            why="the backend crashed (SIGSEGV) while running batch size 1",
            noise_floor=None,
            sizes=(size(1, None, status="failed", error="crashed (SIGSEGV)", seconds=None, top1_changes=None),),
            outputs=(),
            mode_gap=None,
            forwards=0,
        ),
    ),
    exit_code=3,
)

UNDECIDED = audit(
    report(
        observation=observation(
            verdict=INCONCLUSIVE,
            why="routing changes with the companions and the model does not run in float64",
            flags=(RNG, STATEFUL),
            seed_effect=0.2,
            second_call_effect=0.01,
            sizes=(
                size(1, None, status="failed", error="Expected more than 1 value per channel", top1_changes=None),
                size(2, None, error="output logits is of shape [9]: no axis of 2", top1_changes=None),
                size(3, 0.02, top1_changes=None, samples=()),
                size(5, math.nan, max_abs=math.inf, top1_changes=None, samples=(0.0, math.nan, math.inf, 1e-9, 2.0)),
            ),
            noise_floor=None,
            reference_size=None,
            fails_at_one="Expected more than 1 value per channel when training, got input size [1, 4, 1, 1]",
            lost_at=(2,),
            is_untrained=True,
            latent=(Place(path="gate.bn", type_name="BatchNorm1d"), Place(op="Softmax", node="/gate/Softmax")),
            combined_at=Place(path="head"),
            repeat_effect=1e-3,
            rounding_only=2e-6,
            optimisation_effect=0.004,
            padding_effect=0.3,
            norm_calls=5,
            registered_norms=3,
            unregistered_norms=(Place(path="extra", op="aten.batch_norm.default"),),
            ungated_dropout=(Place(path="drop"),),
            drifting=("bn.running_mean",),
            quantised_dynamically=True,
            inputs=(
                InputUsed(name="tokens", dtype="int64", shape=(12,), batch_axis=1, origin="--input"),
                InputUsed(name="table", dtype="float32", shape=(), batch_axis=None),
            ),
            outputs=(
                OutputResult(name="logits", dtype="float32", shape=(5, 9), batch_axis=None, top1_changes=2),
                OutputResult(name="state.0", dtype="float32", shape=(), batch_axis=1, max_rel=math.nan),
            ),
            remarks=("The graph fixed its batch at 1; 7 reshapes were freed in memory.",),
            model="ema",
            device="cuda:0",
            threads=None,
        ),
    ),
    exit_code=3,
)

ROWS_MATTER = audit(
    report(
        observation=observation(
            verdict=SIZE,
            effect=0.0004,
            fixed_batch=None,
            tier="quick",
            reference_size=64,
            sizes=tuple(size(count, 0.0004 / count if count < 64 else 0.0) for count in (*range(1, 41), 64)),
        )
    )
)

HOSTILE_RUN = audit(
    report(
        HOSTILE,
        norms=(norm(HOSTILE),),
        observation=observation(
            model=HOSTILE,
            runner=HOSTILE,
            device=HOSTILE,
            dtype=HOSTILE,
            tier=HOSTILE,
            verdict=CONTENT,
            why=HOSTILE,
            effect=math.inf,
            flags=(MUTATES_STATE,),
            sizes=(
                size(1, None, status="failed", error=HOSTILE, top1_changes=None),
                size(2, 0.5, samples=(0.5, math.nan)),
            ),
            outputs=(OutputResult(name=HOSTILE, dtype=HOSTILE, shape=(2, 3), max_rel=0.5),),
            inputs=(InputUsed(name=HOSTILE, dtype=HOSTILE, shape=(3,), origin=HOSTILE),),
            first_divergence=Place(path=HOSTILE, type_name=HOSTILE, op=HOSTILE, node=HOSTILE + "x"),
            combined_at=Place(path=HOSTILE),
            restored_by=(HOSTILE,),
            latent=(Place(path=HOSTILE),),
            profile=(
                LayerEffect(path="in", effect=0.0),
                LayerEffect(path=HOSTILE, effect=math.nan, type_name=HOSTILE, is_norm=True),
                LayerEffect(path="out", effect=math.inf, type_name=HOSTILE),
            ),
            buffers_changed=(HOSTILE,),
            norm_buffers_changed=(HOSTILE,),
            fails_at_one=HOSTILE,
            unregistered_norms=(Place(path=HOSTILE),),
            ungated_dropout=(Place(path=HOSTILE),),
            drifting=(HOSTILE,),
            environment={HOSTILE: HOSTILE},
            command=HOSTILE,
            remarks=(HOSTILE,),
        ),
    ),
    exit_code=1,
)

ALL = {
    "sweep_independent": INDEPENDENT_RUN,
    "sweep_companions": COMPANIONS,
    "sweep_crashed": CRASHED,
    "sweep_undecided": UNDECIDED,
    "sweep_sizes": ROWS_MATTER,
    "sweep_hostile": HOSTILE_RUN,
}
