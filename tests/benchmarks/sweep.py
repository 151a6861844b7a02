"""Measure what a sweep costs beside the bare forward passes that its protocol needs; exit with 1 over budget.

    python -m tests.benchmarks.sweep [--size 96] [--rounds 2] [--only torch onnxruntime ...] [--steps]

Both are timed in this process with one thread, in seconds of the processor, so that other programs do not count;
opening the model is left out on both sides. The bare passes are those of the backend without any of this tool: for the
quick tier four at the largest size and one at every other; for the full tier repeat (4), companions (12), position (1)
and noise (3) at the largest size and one at every other.

The network has the layers of a ResNet-50 and, without its pooling, takes half its image: the same work behind the stem.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from bn_audit.measuring.measurement import measure
from bn_audit.measuring.opening import opened, opened_live
from bn_audit.running import Session
from bn_audit.subject.run import Job

sys.path.insert(0, str(Path(__file__).parent))

from networks import trained

RESNET_50 = (3, 4, 6, 3)
SIZES = (1, 2, 3, 8)
AT_LARGEST = {"quick": 4, "full": 20}
BUDGETS = {"quick": 1.3, "full": 2.0}

Pass = Callable[[np.ndarray], object]


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A way to run the network, bare and by the audit."""

    name: str
    bare: Pass
    session: Callable[[Job], object]
    job: Job


def main() -> int:
    """Measure every backend in both tiers; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.sweep", description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=96, help="pixels of the image")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=["torch", "onnxruntime"])
    parser.add_argument("--steps", action="store_true", help="print the time of every step")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    table = Table("backend", "tier", "bare passes", "bare s", "sweep s", "ratio", "budget", "verdict")
    kept = True
    with TemporaryDirectory() as folder:
        model = _alive(trained(RESNET_50), given.size)
        for backend in backends(model, given.size, Path(folder)):
            if backend.name not in given.only:
                continue
            for tier, budget in BUDGETS.items():
                bare, ours, verdict = compared(backend, tier, given)
                kept = kept and ours <= budget * bare
                passes = AT_LARGEST[tier] + len(SIZES) - 1
                figures = (f"{bare:.2f}", f"{ours:.2f}", f"{ours / bare:.2f}", f"{budget}", verdict)
                table.add_row(backend.name, tier, str(passes), *figures)
    Console().print(table)
    return 0 if kept else 1


def _alive(model: nn.Module, size: int) -> nn.Module:
    """Give the norm layers the statistics of real batches: with random ones activations vanish or overflow."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.constant_(layer.weight, 0.7)
            layer.momentum = 0.5
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(8, 3, size, size))
    return model.eval()


def backends(model: nn.Module, size: int, folder: Path) -> Iterator[Backend]:
    """Yield the network behind each backend."""

    def in_torch(x: np.ndarray) -> object:
        with torch.no_grad():
            return model(torch.from_numpy(x)).numpy()

    inputs = (f"x=float32:3x{size}x{size}",)
    job = Job(source="network", format="live-module", inputs=inputs, batch_sizes=SIZES, threads=1)
    yield Backend(name="torch", bare=in_torch, session=lambda job: opened_live(model, job), job=job)

    import onnxruntime

    path = str(folder / "network.onnx")
    axes = {"x": {0: "n"}, "y": {0: "n"}}
    sample = torch.randn(2, 3, size, size)
    torch.onnx.export(*(model, sample, path), dynamo=False, dynamic_axes=axes, input_names=["x"], output_names=["y"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    job = Job(source=path, format="onnx", inputs=inputs, batch_sizes=SIZES, threads=1)
    yield Backend(name="onnxruntime", bare=lambda x: session.run(None, {"x": x}), session=_opened, job=job)


@contextmanager
def _opened(job: Job) -> Iterator[Session]:
    with opened(job, lambda *_: None) as session:
        yield session


def compared(backend: Backend, tier: str, given: argparse.Namespace) -> tuple[float, float, str]:
    """Return the least seconds of the bare passes and of the sweep, taken in turns, and the verdict."""
    job = Job(**{**{name: getattr(backend.job, name) for name in Job.__slots__}, "tier": tier})
    largest = np.random.default_rng(0).standard_normal((max(SIZES), 3, given.size, given.size)).astype(np.float32)
    backend.bare(largest)
    least, verdict = [float("inf")] * 2, ""
    for turn in range(given.rounds):
        start = time.process_time()
        for _ in range(AT_LARGEST[tier]):
            backend.bare(largest)
        for size in sorted(SIZES)[:-1]:
            backend.bare(largest[:size])
        bare = time.process_time() - start
        with backend.session(job) as session:
            clock = _Clock(shown=given.steps and turn == 0)
            start = time.process_time()
            verdict = measure(job, session, clock).verdict
            ours = time.process_time() - start
            clock("", 0)
        least = [min(least[0], bare), min(least[1], ours)]
    return least[0], least[1], verdict


class _Clock:
    """Prints how long each step took, when the next one begins."""

    def __init__(self, *, shown: bool) -> None:
        self.shown, self.step, self.start = shown, "", time.process_time()

    def __call__(self, what: str, passes: int) -> None:
        now = time.process_time()
        if self.shown and self.step:
            print(f"  {now - self.start:7.3f} s  {self.step}")
        self.step, self.start = what, now


if __name__ == "__main__":
    sys.exit(main())
