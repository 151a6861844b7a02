"""Paths of modules that are registered more than once, against torch's own enumeration."""

from __future__ import annotations

import torch
from torch import nn

import bn_audit
from bn_audit.recognition.aliases import MAX_ALIASES, aliases_of


def torch_says(model: nn.Module) -> dict[str, list[str]]:
    paths: dict[int, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, nn.BatchNorm1d):
            paths.setdefault(id(module), []).append(path)
    return {first: sorted(others) for first, *others in paths.values()}


def test_norms_below_shared_parents_have_every_path(tmp_path):
    block = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    twice = nn.ModuleDict({"left": block, "right": block, "own": nn.BatchNorm1d(3)})
    model = nn.Sequential(twice, twice, block, nn.BatchNorm1d(3))
    torch.save(model, tmp_path / "model.pt")
    for target in (model, tmp_path / "model.pt"):
        found = {norm.path: sorted(norm.aliases) for norm in bn_audit.check(target).norms}
        assert found == torch_says(model)


def test_paths_that_multiply_are_cut_off():
    repeats = {".".join(["a"] * depth): [".".join(["a"] * (depth - 1) + ["b"])] for depth in range(1, 40)}
    assert len(aliases_of(".".join(["a"] * 40), repeats)) == MAX_ALIASES


def test_a_module_below_itself_ends():
    assert len(aliases_of("a.norm", {"a": ["a.a"]})) == MAX_ALIASES


def test_a_model_with_large_plain_attributes_is_read(tmp_path):
    model = nn.Sequential(nn.BatchNorm1d(3)).eval()
    model.vocabulary = {f"word {index}": index for index in range(250_000)}
    model.cache = {"a text " * 1000: [1, 2]}
    torch.save(model, tmp_path / "model.pt")
    assert [norm.path for norm in bn_audit.check(tmp_path / "model.pt").norms] == ["0"]
