"""The zoo through both of torch's ONNX exporters: layers as torch has them, verdicts as onnxruntime measures them."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path

import numpy
import onnxruntime
import pytest
import torch
from torch import nn
from zoo import truth
from zoo.catalogue import ZOO, Mode, modes, network
from zoo.comparison import Plain, loaded
from zoo.forms import quietly

from bn_audit.audit import read_subject
from bn_audit.subject.norm import NormKind, NormLayer
from bn_audit.subject.subject import Subject

TRACED = [(name, mode) for name, item in ZOO.items() if item.graphs or item.scripts for mode in modes(name)]
EXPORTED = [
    (name, mode)
    for name in ("plain_cnn", "resnet", "no_track", "no_track_not_affine", "instance_norm", "weight_standardised")
    for mode in (Mode.EVAL, Mode.TRAIN)
]
UNTRACEABLE = {("transformer", Mode.EVAL)}
"""torch.onnx.export without dynamo fails on the fast path of the encoder."""

UNRUNNABLE = {"bfloat16", "double"}
"""Networks in dtypes for which onnxruntime has no convolution."""


OLDER = [
    (name, mode, opset)
    for name in ("plain_cnn", "no_track", "instance_norm", "weight_standardised", "with_dropout")
    for mode in (Mode.EVAL, Mode.TRAIN)
    for opset in (7, 9, 13, 14, 18)
]


def export(model: nn.Module, name: str, path: Path, *, dynamo: bool, opset: int = 17) -> None:
    """Write the model as it is, without folding what the audit is to find."""
    settings: dict[str, object] = {"optimize": False, "verbose": False, "external_data": False}
    if not dynamo:
        preserve = torch.onnx.TrainingMode.PRESERVE
        settings = {"training": preserve, "opset_version": opset, "do_constant_folding": False}
    with quietly(), torch.no_grad():
        logging.disable(logging.WARNING)
        try:
            torch.onnx.export(model, ZOO[name].inputs(), path, dynamo=dynamo, **settings)
        finally:
            logging.disable(logging.NOTSET)


def exported(name: str, mode: Mode, directory: Path, *, dynamo: bool) -> tuple[Path, nn.Module, Subject]:
    """Return the file, the network as the exporter left it, and what the audit reads."""
    path, model = directory / "model.onnx", network(name, mode)
    export(model, name, path, dynamo=dynamo)
    with read_subject(path) as subject:
        return path, model, subject


@cache
def mixes_samples(path: Path) -> bool:
    """Measure whether the first sample's output depends on the others, in onnxruntime without optimisation."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    answers = []
    for seed in (1, 2):
        # A training node may change its own statistics: each run starts anew.
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        fixed, others = numpy.random.default_rng(0), numpy.random.default_rng(seed)
        feed = {}
        for item in session.get_inputs():
            dtype = {"tensor(float)": "float32", "tensor(double)": "float64"}[item.type]
            feed[item.name] = others.standard_normal(item.shape).astype(dtype) * seed
            feed[item.name][0] = fixed.standard_normal(item.shape[1:])
        answers.append(session.run(None, feed)[0][0])
    return not numpy.array_equal(*answers)


def described(norm: NormLayer) -> Plain:
    return {
        "uses_batch_statistics": norm.uses_batch_statistics,
        "num_features": norm.num_features,
        "eps": norm.eps,
        "tensors": {role: loaded(ref) for role, ref in norm.tensors.items()},
    }


def described_by_torch(layer: truth.TrueLayer, written: Plain) -> Plain:
    """Return the same of a layer of torch; a layer without affine parameters is written with ones and zeros."""
    tensors = {role: value for role, value in layer.tensors.items() if role != "num_batches_tracked"}
    given = written["tensors"]
    assert isinstance(given, dict)
    for role, number in (("weight", 1.0), ("bias", 0.0)):
        if role not in tensors and role in given:
            assert layer.num_features is not None
            dtype = getattr(torch, given[role].dtype)
            tensors[role] = truth.tensor(torch.full((layer.num_features,), number, dtype=dtype))
    return {
        "uses_batch_statistics": layer.uses_batch_statistics,
        "num_features": layer.num_features,
        "eps": layer.eps,
        "tensors": tensors,
    }


@pytest.mark.parametrize(("name", "mode"), [case for case in TRACED if case not in UNTRACEABLE])
def test_traced_export_has_the_layers_of_torch(name: str, mode: Mode, tmp_path: Path) -> None:
    path, model, subject = exported(name, mode, tmp_path, dynamo=False)
    found = {norm.path: described(norm) for norm in subject.norms if norm.kind is NormKind.BATCH_NORM}
    layers = {layer.path: layer for layer in truth.layers(model) if layer.kind == "batch_norm"}
    standardised = {"conv2"} if name == "weight_standardised" else set[str]()
    assert found.keys() == layers.keys() | standardised
    for route in standardised:
        assert found[route]["uses_batch_statistics"] is False
    for route, layer in layers.items():
        assert found[route] == described_by_torch(layer, found[route])
    assert subject.unread == ()
    if name not in UNRUNNABLE:
        assert mixes_samples(path) is any(norm.uses_batch_statistics for norm in subject.norms)


@pytest.mark.parametrize(("name", "mode", "opset"), OLDER)
def test_every_operator_set_is_judged_as_it_runs(name: str, mode: Mode, opset: int, tmp_path: Path) -> None:
    path, model = tmp_path / "model.onnx", network(name, mode)
    export(model, name, path, dynamo=False, opset=opset)
    with read_subject(path) as subject:
        uses = any(norm.uses_batch_statistics for norm in subject.norms)
    assert uses is mixes_samples(path)
    assert uses is any(layer.uses_batch_statistics for layer in truth.layers(model))
    assert all(norm.contradiction is None for norm in subject.norms)
    dropouts = [(call.probability, call.live) for call in subject.random_calls]
    # An evaluation-mode dropout is not written, and below operator set 12 the operator is for inference alone.
    assert dropouts == ([(0.3, opset >= 12)] if name == "with_dropout" and mode is Mode.TRAIN else [])


@pytest.mark.parametrize(("name", "mode"), EXPORTED)
def test_dynamo_export_is_judged_as_it_runs(name: str, mode: Mode, tmp_path: Path) -> None:
    """This exporter writes batch norms in training mode in inference form, so torch's flag is not the truth here."""
    path, model, subject = exported(name, mode, tmp_path, dynamo=True)
    layers = {layer.path: layer for layer in truth.layers(model)}
    found = {norm.path: norm for norm in subject.norms}
    assert layers.keys() <= found.keys()
    for route, layer in layers.items():
        assert found[route].type_name == layer.type_name
        assert found[route].num_features == layer.num_features
        for role in ("running_mean", "running_var"):
            assert (role in found[route].tensors) is (role in layer.tensors)
        if mode is Mode.EVAL:
            assert found[route].uses_batch_statistics is layer.uses_batch_statistics
            assert {role: loaded(ref) for role, ref in found[route].tensors.items()}.items() <= layer.tensors.items()
    assert mixes_samples(path) is any(norm.uses_batch_statistics for norm in subject.norms)
    assert subject.models[0].type_name == f"{type(model).__module__}.{type(model).__qualname__}"
