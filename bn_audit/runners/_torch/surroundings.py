"""What a model may change in the process around it: random generators, threads, settings of the kernels."""

from __future__ import annotations

import contextlib
import os
import random
import sys
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed every random generator inside the block and put all of them back afterwards."""
    import torch

    states = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        random.seed(seed)
        np.random.seed(seed % (1 << 32))
        torch.default_generator.manual_seed(seed)
        if cuda is not None:
            torch.cuda.manual_seed_all(seed)
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.random.set_rng_state(states[2])
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Let a model run inside the block: no gradients, no warnings, and what it prints goes to stderr."""
    import torch

    default = torch.get_default_dtype()
    with (
        contextlib.redirect_stdout(sys.stderr),
        warnings.catch_warnings(),
        torch.no_grad(),  # inference tensors, the quicker choice, break models that keep or rewrite their outputs
        _without_compiling(),
    ):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            torch.set_default_dtype(default)


@contextlib.contextmanager
def _without_compiling() -> Iterator[None]:
    """Run compiled modules as their plain code: compiling takes minutes and tells nothing about the model."""
    import torch

    if "torch._dynamo" not in sys.modules or not hasattr(torch.compiler, "set_stance"):
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


@contextlib.contextmanager
def configured(*, threads: int | None, device: torch.device) -> Iterator[None]:
    """Set threads and, for a GPU, what makes equal shapes give equal bits; put all of it back afterwards."""
    import torch

    before = torch.get_num_threads()
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        if device.type == "cuda":
            with _deterministic_gpu():
                yield
        else:
            yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _deterministic_gpu() -> Iterator[None]:
    """Choose deterministic kernels in full precision.

    Autotuning picks kernels by timing and TF32 rounds to ten bits: both would look like the model's own noise.
    """
    import torch

    name = "CUBLAS_WORKSPACE_CONFIG"
    workspace = os.environ.get(name)
    os.environ.setdefault(name, ":4096:8")
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    saved = cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
    algorithms = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = True, False, False, False
        torch.use_deterministic_algorithms(True, warn_only=True)
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = saved
        torch.use_deterministic_algorithms(algorithms[0], warn_only=algorithms[1])
        if workspace is None:
            os.environ.pop(name, None)
