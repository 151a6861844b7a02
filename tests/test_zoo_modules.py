"""Every network of the zoo, pickled in every way: layers, modes, settings and tensors are what torch says."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from zoo.catalogue import ZOO, Mode, modes, network
from zoo.comparison import Plain, audited, true
from zoo.forms import MODULE_FORMS, ModuleForm, quietly
from zoo.truth import layers

from bn_audit.audit import check
from bn_audit.subject.subject import Form

CASES = [(name, mode) for name, architecture in ZOO.items() if architecture.pickles for mode in modes(name)]


@cache
def torch_says(name: str, mode: Mode) -> dict[str, Plain]:
    return true(layers(network(name, mode)))


def expected_codes(name: str, mode: Mode) -> set[str]:
    """Return the codes that the network deserves in this mode.

    Modes that differ between layers supersede the plain finding. A layer without statistics has its own finding,
    since its mode changes nothing, and so has one that never saw a batch; eval() does not reach one outside the
    registry, so it makes no mode a mixed one.
    """
    judged = [
        layer
        for layer in torch_says(name, mode).values()
        if layer["kind"] in ("batch_norm", "sync_batch_norm") and "running_mean" in layer["tensors"]
    ]
    codes = set(ZOO[name].expected)
    if {layer["mode"] for layer in judged if layer["registered"]} == {"train", "eval"}:
        codes.add("BN102")
    elif any(layer["mode"] == "train" for layer in judged):
        codes.add("BN101")
    return codes


@pytest.mark.parametrize("form", MODULE_FORMS, ids=lambda form: form.name)
@pytest.mark.parametrize(("name", "mode"), CASES, ids=lambda value: value if isinstance(value, str) else value.value)
def test_pickled_module_is_read_as_torch_sees_it(name: str, mode: Mode, form: ModuleForm, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with quietly():
        form.write(network(name, mode), path)
    report = check(path)
    assert not report.failed
    assert report.format == "torch-checkpoint"
    assert [(model.route, model.form) for model in report.models if model.form is Form.MODULE] == [
        (route, Form.MODULE) for route in form.routes
    ]
    assert {norm.model for norm in report.norms} <= set(form.routes)
    assert audited(report.norms) == torch_says(name, mode)


@pytest.mark.parametrize(("name", "mode"), CASES, ids=lambda value: value if isinstance(value, str) else value.value)
def test_pickled_module_has_the_findings_it_deserves(name: str, mode: Mode, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with quietly():
        torch.save(network(name, mode), path)
    report = check(path)
    assert not report.failed
    assert {finding.code for finding in report.findings} == expected_codes(name, mode)


@pytest.mark.parametrize("name", ["resnet", "nested", "shared_bn"])
def test_layers_come_in_the_order_of_the_model(name: str, tmp_path: Path) -> None:
    torch.save(network(name, Mode.EVAL), tmp_path / "model.pt")
    report = check(tmp_path / "model.pt")
    assert [norm.path for norm in report.norms] == list(torch_says(name, Mode.EVAL))


def test_two_models_of_one_file_are_told_apart(tmp_path: Path) -> None:
    checkpoint = {"model": network("plain_cnn", Mode.TRAIN), "ema": network("plain_cnn", Mode.EVAL)}
    torch.save(checkpoint, tmp_path / "model.pt")
    report = check(tmp_path / "model.pt")
    for route, mode in (("model", Mode.TRAIN), ("ema", Mode.EVAL)):
        found = audited(norm for norm in report.norms if norm.model == route)
        assert found == torch_says("plain_cnn", mode)
    trained = [finding for finding in report.findings if finding.code == "BN101"]
    assert {location.model for finding in trained for location in finding.locations} == {"model"}
