"""Linear weights that lie as (in, out): another framework's file, and its twin that is only wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import bn_audit

BURN_NAMES = {"weight": "gamma", "bias": "beta"}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    for _ in range(3):
        net(torch.randn(16, 6))
    return net.eval()


def burn_file(net: nn.Sequential, path: Path, *, renamed: bool = True, square: bool = True) -> Path:
    """Write the tensors as burn-store does without its adapter for PyTorch."""
    stored = {}
    for name, tensor in net.state_dict().items():
        index, _, leaf = name.partition(".")
        if leaf == "num_batches_tracked":
            continue
        if isinstance(net[int(index)], nn.BatchNorm1d):
            leaf = BURN_NAMES.get(leaf, leaf) if renamed else leaf
        elif leaf == "weight" and (square or tensor.shape[0] != tensor.shape[1]):
            tensor = tensor.T
        stored[f"{index}.{leaf}"] = tensor.contiguous()
    save_file(stored, path)
    return path


@pytest.mark.parametrize("square", [True, False], ids=["all turned", "square ones as they are"])
@pytest.mark.parametrize("turned_side", ["reference", "target"])
def test_a_file_of_burn_fits(tmp_path: Path, turned_side: str, square: bool) -> None:
    net = network()
    burn = burn_file(net, tmp_path / "burn.safetensors", square=square)
    torch.save(net.state_dict(), tmp_path / "torch.pt")
    sides = (burn, tmp_path / "torch.pt") if turned_side == "reference" else (tmp_path / "torch.pt", burn)
    report = bn_audit.compare(*sides, values="all")
    assert {finding.code for finding in report.findings} == {"BN202", "BN701"}
    assert report.comparison is not None
    assert not report.comparison.values.mismatched
    assert [remark.partition(": ")[2] for remark in report.comparison.remarks] == [
        "3 linear weights lie as (in, out) and are turned"
    ]


def test_a_changed_element_of_a_turned_weight_is_found(tmp_path: Path) -> None:
    net = network()
    torch.save(net.state_dict(), tmp_path / "torch.pt")
    with torch.no_grad():
        net[4].weight[2, 5] += 0.5
    report = bn_audit.compare(tmp_path / "torch.pt", burn_file(net, tmp_path / "burn.safetensors"), values="all")
    assert report.comparison is not None
    [mismatch] = report.comparison.values.mismatched
    assert (mismatch.target, mismatch.beyond, mismatch.channel) == ("4.weight", 1, 2)


def test_in_names_of_one_framework_a_turned_weight_is_a_mistake(tmp_path: Path) -> None:
    net = network()
    torch.save(net.state_dict(), tmp_path / "torch.pt")
    report = bn_audit.compare(tmp_path / "torch.pt", burn_file(net, tmp_path / "x.safetensors", renamed=False))
    assert "BN223" in {finding.code for finding in report.findings}
