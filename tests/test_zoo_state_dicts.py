"""Every network of the zoo as a state dict: tensors are what torch says, modes are unknown."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from torch import Tensor
from zoo import truth
from zoo.catalogue import ZOO, Mode, network
from zoo.comparison import Plain, audited, only
from zoo.forms import STATE_DICT_FORMS, StateDictForm, quietly

from bn_audit.audit import check
from bn_audit.subject.subject import Form

_HELD_ELSEWHERE = {"running_mean_std"}
"""Running statistics that are no batch norm's."""


def _can_write(name: str, form: StateDictForm) -> bool:
    return bool(ZOO[name].sample) or (name == "meta_device" and "safetensors" not in form.name)


CASES = [(name, form) for name in ZOO for form in STATE_DICT_FORMS if _can_write(name, form)]


@cache
def layers_of_keys(name: str) -> dict[str, Plain]:
    """Return what the keys of torch's own state dict show: a running mean and variance make a layer."""
    groups: dict[str, dict[str, Tensor]] = {}
    for key, value in network(name, Mode.EVAL).state_dict().items():
        prefix, _, role = key.rpartition(".")
        groups.setdefault(prefix, {})[role] = value
    if name in _HELD_ELSEWHERE:
        return {}
    return {
        path: {
            "mode": "unknown",
            "num_features": len(group["running_mean"]),
            "eps": None,
            "momentum": None,
            "cumulative": False,
            "track_running_stats": None,
            "requires_grad": None,
            "registered": True,
            "uninitialised": False,
            "tensors": {role: truth.tensor(group[role]) for role in truth.ROLES if role in group},
        }
        for path, group in groups.items()
        if {"running_mean", "running_var"} <= group.keys()
    }


@pytest.mark.parametrize(("name", "form"), CASES, ids=lambda value: value if isinstance(value, str) else value.name)
def test_state_dict_is_read_as_torch_sees_it(name: str, form: StateDictForm, tmp_path: Path) -> None:
    with quietly():
        path = form.write(network(name, Mode.TRAIN), tmp_path / f"model{form.suffix}")
    report = check(path)
    assert not report.failed
    assert report.format == ("safetensors" if "safetensors" in form.name else "torch-checkpoint")
    assert [(model.route, model.form) for model in report.models] == [(route, Form.STATE_DICT) for route in form.routes]
    expected = {form.prefix + path: layer for path, layer in layers_of_keys(name).items()}
    fields = next(iter(expected.values()), {})
    for route in form.routes:
        norms = [norm for norm in report.norms if norm.model == route]
        assert only(audited(norms), *fields) == expected
        assert not any(norm.uses_batch_statistics for norm in norms)


@pytest.mark.parametrize("form", STATE_DICT_FORMS, ids=lambda form: form.name)
def test_clean_state_dict_only_leaves_the_mode_open(form: StateDictForm, tmp_path: Path) -> None:
    path = form.write(network("resnet", Mode.TRAIN), tmp_path / f"model{form.suffix}")
    report = check(path)
    assert {finding.code for finding in report.findings} == {"BN111"}
