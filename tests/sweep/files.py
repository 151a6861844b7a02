"""Clean networks as files, and what the sweep measures on them in this process."""

from __future__ import annotations

import contextlib
import copy
import io
import warnings
from pathlib import Path

import torch
from networks import Clean
from torch import nn

from bn_audit.measuring.measurement import measure
from bn_audit.measuring.opening import opened
from bn_audit.subject.observation import Observation
from bn_audit.subject.run import Job

PRESERVE = torch.onnx.TrainingMode.PRESERVE
FORMATS = {"onnx": "onnx", "exported-program": "pt2"}


def written(network: Clean, form: str, folder: Path, model: nn.Module | None = None) -> Path:
    """Write a network, or a mutant of it as it is, with an open batch axis."""
    path = folder / f"{network.name}.{FORMATS[form]}"
    inputs = network.draw(3)
    module = network.build() if model is None else copy.deepcopy(model)
    settings = {} if model is None else {"training": PRESERVE, "do_constant_folding": False}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # the exporter prints what it refuses
        warnings.simplefilter("ignore")
        if form == "onnx":
            names = [f"x{index}" for index in range(len(inputs))]
            axes = {name: {0: "batch"} for name in names}
            stream = io.BytesIO()
            torch.onnx.export(module, inputs, stream, dynamo=False, input_names=names, dynamic_axes=axes, **settings)
            path.write_bytes(stream.getvalue())
        else:
            batch = torch.export.Dim("batch", min=1, max=64)
            shapes = tuple({0: batch} for _ in inputs)
            torch.export.save(torch.export.export(module, inputs, dynamic_shapes=shapes, strict=False), path)
    return path


def measured(path: Path, form: str, *, threads: int) -> Observation:
    """Return what the sweep measures on a file at the default sizes."""
    job = Job(source=str(path), format=form, threads=threads, trust=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with opened(job, lambda _what, _passes: None) as session:
            return measure(job, session, lambda _what, _passes: None)
