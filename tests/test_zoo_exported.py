"""Every network of the zoo as an exported program: layers, modes, settings and tensors as torch sees them."""

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

EXPORTED = [
    (name, mode)
    for name, architecture in ZOO.items()
    if architecture.graphs
    for mode in modes(name)
    if mode in architecture.exports
]
NOT_IN_GRAPHS = ("type_name", "mode", "track_running_stats", "cumulative")
"""What an operator does not tell; the mode only where statistics are stored, since nothing else depends on it."""


@cache
def torch_says(name: str, mode: Mode) -> dict[str, Plain]:
    return true(layers(network(name, mode)))


def expected_codes(name: str, mode: Mode) -> set[str]:
    trains = any(
        layer["mode"] == "train" and "running_mean" in layer["tensors"] for layer in torch_says(name, mode).values()
    )
    dropout = {"BN504"} if name == "with_dropout" and mode is Mode.TRAIN else set()
    mixes = any(layer["uses_batch_statistics"] for layer in torch_says(name, mode).values())
    return ZOO[name].expected | dropout | ({"BN310"} if trains else set()) | ({"BN401"} if mixes else set())


@pytest.mark.parametrize(
    ("name", "mode"), EXPORTED, ids=lambda value: value.value if isinstance(value, Mode) else value
)
def test_exported_network_is_read_as_torch_sees_it(name: str, mode: Mode, tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    with quietly():
        forms.export(network(name, mode), path, ZOO[name].inputs())
    report = check(path)
    assert not report.failed
    assert report.format == "exported-program"
    over_activations = [norm for norm in report.norms if norm.input_origin is not InputOrigin.PARAMETERS]
    found, expected = audited(over_activations), torch_says(name, mode)
    fields = [field for field in next(iter(expected.values()), {}) if field not in NOT_IN_GRAPHS]
    assert only(found, *fields) == only(expected, *fields)
    for norm in over_activations:
        assert norm.mode_origin is ModeOrigin.EXPORTED_ARGUMENT
        if norm.has_running_statistics:
            assert norm.mode.value == expected[norm.path]["mode"]
            assert norm.input_origin is InputOrigin.ACTIVATIONS
    assert {finding.code for finding in report.findings} == expected_codes(name, mode)


@pytest.mark.parametrize("mode", list(Mode), ids=lambda mode: mode.value)
def test_standardised_weights_are_no_finding(mode: Mode, tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    with quietly():
        forms.export(network("weight_standardised", mode), path, ZOO["weight_standardised"].inputs())
    report = check(path)
    over_weights = [norm for norm in report.norms if norm.input_origin is InputOrigin.PARAMETERS]
    assert [(norm.path, norm.uses_batch_statistics) for norm in over_weights] == [("conv2", False)]
    assert not any(location.path == "conv2" for finding in report.findings for location in finding.locations)
