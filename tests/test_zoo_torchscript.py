"""Every network of the zoo as TorchScript, scripted and traced: layers, modes, settings and tensors."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from zoo import forms
from zoo.catalogue import ZOO, Mode, modes, network
from zoo.comparison import Plain, audited, only, true
from zoo.forms import quietly
from zoo.truth import layers

from bn_audit.audit import check
from bn_audit.subject.norm import InputOrigin, ModeOrigin

SCRIPTED = [(name, mode) for name, architecture in ZOO.items() if architecture.scripts for mode in modes(name)]
TRACED = [(name, mode) for name, architecture in ZOO.items() if architecture.graphs for mode in modes(name)]
IN_GRAPHS = ("kind", "type_name", "uses_batch_statistics", "eps", "requires_grad", "tensors", "aliases")
"""What tracing leaves of a layer."""


@cache
def torch_says(name: str, mode: Mode) -> dict[str, Plain]:
    return true(layers(network(name, mode)))


def case(value: object) -> str:
    return value.value if isinstance(value, Mode) else str(value)


@pytest.mark.parametrize(("name", "mode"), SCRIPTED, ids=case)
def test_scripted_network_is_read_as_torch_sees_it(name: str, mode: Mode, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with quietly():
        forms.script(network(name, mode), path)
    report = check(path)
    assert not report.failed
    assert report.format == "torchscript"
    assert audited(report.norms) == torch_says(name, mode)
    assert {norm.mode_origin for norm in report.norms} <= {ModeOrigin.SCRIPTED_FLAG}
    assert [norm.path for norm in report.norms] == list(torch_says(name, mode))


@pytest.mark.parametrize(("name", "mode"), TRACED, ids=case)
def test_traced_network_is_read_as_torch_sees_it(name: str, mode: Mode, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with quietly():
        forms.trace(network(name, mode), path, ZOO[name].inputs())
    report = check(path)
    assert not report.failed
    assert report.format == "torchscript"
    modules = [norm for norm in report.norms if norm.node is None]
    found, expected = audited(modules), torch_says(name, mode)
    assert only(found, *IN_GRAPHS) == only(expected, *IN_GRAPHS)
    assert {norm.mode_origin for norm in report.norms} <= {ModeOrigin.TRACED_CONSTANT}
    for norm in modules:
        if norm.has_running_statistics:
            assert norm.mode.value == expected[norm.path]["mode"]
            assert norm.num_features == expected[norm.path]["num_features"]
    functional = [norm for norm in report.norms if norm.node is not None]
    assert bool(functional) == (name == "weight_standardised")
    assert {norm.uses_batch_statistics for norm in functional} <= {False}
    assert {norm.input_origin for norm in functional} <= {InputOrigin.PARAMETERS}
