"""The networks of the zoo as both of torch's exporters write them, in each mode: proved and measured."""

from __future__ import annotations

import contextlib
import copy
import io
from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from onnx_graphs import Draw, Unrunnable, measured, proof_of
from zoo.catalogue import ZOO, Architecture, Mode, modes, network
from zoo.forms import quietly

RANDOM = {("with_dropout", Mode.TRAIN)}
"""Live dropout: two runs differ, so nothing can be measured."""

KINDS = {torch.float64: "f8", torch.float16: "f2"}


def exported_by(architecture: Architecture, mode: Mode, *, dynamo: bool) -> bytes | None:
    """Return the network as an exporter writes it in its own mode; None where the exporter refuses it."""
    torch.manual_seed(0)
    model, inputs = copy.deepcopy(network(architecture.name, mode)), architecture.inputs(4)
    names = [f"x{index}" for index in range(len(inputs))]
    buffer = io.BytesIO()
    with quietly(), torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        try:
            if dynamo:
                batch = torch.export.Dim("batch")
                program = torch.onnx.export(
                    model, inputs, dynamo=True, dynamic_shapes=tuple({0: batch} for _ in inputs), verbose=False
                )
                program.save(buffer)
            else:
                torch.onnx.export(
                    model,
                    inputs,
                    buffer,
                    dynamo=False,
                    opset_version=17,
                    training=torch.onnx.TrainingMode.PRESERVE,
                    do_constant_folding=False,
                    input_names=names,
                    dynamic_axes={name: {0: "batch"} for name in names},
                )
        except Exception:
            return None
    return buffer.getvalue()


def verdicts(architecture: Architecture, *, dynamo: bool) -> Iterator[tuple[Mode, str, str]]:
    """Yield what is proved and what is measured of each output in each mode."""
    for mode in modes(architecture.name):
        model = exported_by(architecture, mode, dynamo=dynamo)
        if model is None or (architecture.name, mode) in RANDOM:
            continue
        try:
            truth = measured(
                model, draws_of(architecture), tolerance=2e-2 if architecture.dtype is torch.half else 1e-4
            )
        except Unrunnable:
            continue
        for flow, true in zip(proof_of(model).outputs, truth, strict=True):
            yield mode, flow.verdict, true


def draws_of(architecture: Architecture) -> list[Draw]:
    kind = KINDS.get(architecture.dtype, "f4")

    def draw(shape: tuple[int, ...]) -> Draw:
        return lambda generator, count: (generator.standard_normal((count, *shape)) * 2 + 0.5).astype(kind)

    return [draw(shape) for shape in architecture.sample]


RUNNABLE = [name for name, architecture in ZOO.items() if architecture.sample and architecture.dtype != torch.bfloat16]
FEW = ("plain_cnn", "resnet", "lstm_bn", "no_track", "instance_norm", "transformer", "weight_standardised")
"""Networks for the slower exporter."""


@pytest.mark.parametrize(("name", "dynamo"), [(n, False) for n in RUNNABLE] + [(n, True) for n in FEW])
def test_the_proof_is_what_is_measured(name: str, dynamo: bool) -> None:
    for mode, proved, truth in verdicts(ZOO[name], dynamo=dynamo):
        assert proved == truth, mode


def test_the_zoo_shows_both_verdicts() -> None:
    table = Counter((proved, truth) for name in FEW[:4] for _, proved, truth in verdicts(ZOO[name], dynamo=False))
    assert set(table) == {("independent", "independent"), ("mixes", "mixes")}
    assert min(table.values()) >= 3
