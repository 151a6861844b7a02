"""A check reads the pickles, headers and batch-norm tensors of a file, and hardly anything else."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from zoo.forms import export, quietly, script

from bn_audit.audit import check

FREE_BYTES = 1 << 20
"""The budget beside what must be read."""


class HeavyNet(nn.Module):
    """Two batch norms of a few hundred bytes beside 12 MiB of convolution weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(64)
        self.wide = nn.Conv2d(64, 64, 27, padding=13)
        self.bn2 = nn.BatchNorm2d(64)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn2(self.wide(torch.relu(self.bn1(self.conv1(x)))))


FORMS: dict[str, Callable[[nn.Module, Path], object]] = {
    "module": torch.save,
    "legacy": lambda model, path: torch.save(model, path, _use_new_zipfile_serialization=False),
    "state-dict": lambda model, path: torch.save(model.state_dict(), path),
    "safetensors": lambda model, path: save_file(model.state_dict(), path),
    "torchscript": script,
    "exported-program": lambda model, path: export(model.eval(), path, (torch.randn(2, 3, 4, 4),)),
}


def must_be_read(path: Path, model: nn.Module) -> int:
    """Return the bytes of the batch norms, and of everything in the file that is not the bytes of a tensor."""
    values = model.state_dict().values()
    all_tensors = sum(value.numel() * value.element_size() for value in values)
    norms = sum(
        value.numel() * value.element_size()
        for module in model.modules()
        if isinstance(module, nn.BatchNorm2d)
        for value in module.state_dict().values()
    )
    return path.stat().st_size - all_tensors + norms


@pytest.mark.parametrize("form", sorted(FORMS))
def test_weights_are_not_read(form: str, tmp_path: Path) -> None:
    model = HeavyNet()
    path = tmp_path / ("model.pt2" if form == "exported-program" else "model.pt")
    with quietly():
        FORMS[form](model, path)
    report = check(path)
    assert len(report.norms) == 2
    assert path.stat().st_size > 11 << 20
    assert 0 < report.bytes_read <= must_be_read(path, model) + FREE_BYTES
    assert report.bytes_read < 2 << 20


def test_compressed_tensors_are_refused_and_not_inflated(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.pt", tmp_path / "packed.pt"
    torch.save(HeavyNet(), plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for member in source.infolist():
            target.writestr(member.filename, source.read(member))
    report = check(packed)
    assert "compressed" in report.failed[0].error
    assert [norm.path for norm in report.norms] == ["bn1", "bn2"]
    assert report.bytes_read < 2 << 20
