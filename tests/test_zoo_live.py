"""Every network of the zoo as a live module: the API and the factory target say what torch says, and change nothing."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torch import nn
from zoo.catalogue import ZOO, Mode, modes, network
from zoo.comparison import audited, true
from zoo.truth import layers

import bn_audit

CASES = [(name, mode) for name in ZOO for mode in modes(name)]


def fingerprint(model: nn.Module) -> str:
    """Return a digest of everything that an audit must leave as it is."""
    digest = hashlib.sha256()
    for path, module in model.named_modules(remove_duplicate=False):
        hooks = sum(len(value) for name, value in vars(module).items() if name.endswith("_hooks"))
        digest.update(f"{path} {id(module)} {module.training} {hooks} {sorted(map(str, vars(module)))}".encode())
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            digest.update(f"{id(tensor)} {tensor._version} {tensor.requires_grad} {tensor.grad is None}".encode())
    return digest.hexdigest()


@pytest.mark.parametrize(("name", "mode"), CASES, ids=lambda value: value.value if isinstance(value, Mode) else value)
def test_live_module_is_read_as_torch_sees_it(name: str, mode: Mode) -> None:
    model = network(name, mode)
    before = fingerprint(model)
    report = bn_audit.check(model)
    assert not report.failed
    assert report.format == "live-module"
    assert audited(report.norms) == true(layers(model))
    assert fingerprint(model) == before


@pytest.mark.parametrize("name", [name for name, architecture in ZOO.items() if architecture.pickles])
def test_file_and_live_module_have_the_same_findings(name: str, tmp_path: Path) -> None:
    from zoo.forms import quietly

    model = network(name, Mode.TRAIN)
    with quietly():
        torch.save(model, tmp_path / "model.pt")
    from_file, live = bn_audit.check(tmp_path / "model.pt"), bn_audit.check(model)
    assert [finding.code for finding in live.findings] == [finding.code for finding in from_file.findings]
