"""Contract tests over every discovered plugin."""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from zoo.catalogue import ZOO, Mode, network
from zoo.forms import MODULE_FORMS, STATE_DICT_FORMS, export, quietly, script, trace

from bn_audit import plugins
from bn_audit.audit import Options, check, run
from bn_audit.containers.source import Source
from bn_audit.containers.target import FactoryTarget, FileTarget, ModuleTarget
from bn_audit.errors import ArtifactError
from bn_audit.interfaces import Format, Reporter
from bn_audit.subject.finding import Intent, Severity
from bn_audit.subject.report import Audit, Report

FORMATS, RULES, REPORTERS = plugins.formats(), plugins.rules(), plugins.reporters()


@contextmanager
def opened(path: Path) -> Iterator[FileTarget]:
    with Source(path) as source:
        yield FileTarget(source)


def acceptors(path: Path) -> list[str]:
    with opened(path) as target:
        return [item.name for item in FORMATS if item.sniff(target)]


def _zip(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return stream.getvalue()


FOREIGN = {
    "empty": b"",
    "text": b"layers: 3\nname: net\n",
    "html": b"<!DOCTYPE html><html></html>",
    "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "png": b"\x89PNG\r\n\x1a\n" + bytes(64),
    "gzip": b"\x1f\x8b\x08" + bytes(64),
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(64),
    "numpy": b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }".ljust(128) + bytes(12),
    "npz": _zip("arr_0.npy"),
    "word": _zip("[Content_Types].xml", "word/document.xml"),
    "jar": _zip("META-INF/MANIFEST.MF"),
    "gguf": b"GGUF\x03\x00\x00\x00" + bytes(64),
    "tflite": b"\x1c\x00\x00\x00TFL3" + bytes(64),
    "json": b'{"weight": 1}',
    "json-list": b"[1, 2]",
    "elf": b"\x7fELF\x02\x01\x01" + bytes(64),
    "zeros": bytes(4096),
    "ones": b"\xff" * 4096,
    "short-header": struct.pack("<Q", 40)[:5],
    "header-beyond-the-end": struct.pack("<Q", 1 << 50) + b"{}",
    "header-no-json": struct.pack("<Q", 2) + b"xx",
}


def test_there_are_plugins() -> None:
    assert {"torch-checkpoint", "torchscript", "exported-program", "safetensors", "live-module"} <= {
        item.name for item in FORMATS
    }
    assert {"text", "json"} <= {item.name for item in REPORTERS}
    assert len(RULES) > 20


@pytest.mark.parametrize("name", sorted(FOREIGN))
def test_formats_leave_other_files_alone(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(FOREIGN[name])
    assert acceptors(path) == []


@pytest.mark.parametrize("item", FORMATS, ids=lambda item: item.name)
def test_formats_survive_every_cut_of_a_zip_archive(item: Format, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(nn.Linear(2, 2).state_dict(), path)
    content = path.read_bytes()
    for length in range(0, len(content), 37):
        path.write_bytes(content[:length])
        with opened(path) as target:
            try:
                item.sniff(target)
            except ArtifactError as error:
                assert str(path) in str(error)


@pytest.mark.parametrize("item", FORMATS, ids=lambda item: item.name)
def test_formats_tell_files_from_live_targets(item: Format) -> None:
    accepts = item.name == "live-module"
    assert item.sniff(ModuleTarget(module=nn.Linear(2, 2))) is accepts
    assert item.sniff(FactoryTarget(spec="package.module:factory")) is accepts


@pytest.mark.parametrize("name", ["plain_cnn", "transformer", "lazy_uninitialised", "graph_module"])
def test_one_format_accepts_each_artifact(name: str, tmp_path: Path) -> None:
    model = network(name, Mode.EVAL)
    written: list[tuple[Path, str]] = []
    with quietly():
        for form in MODULE_FORMS:
            form.write(model, tmp_path / form.name)
            written.append((tmp_path / form.name, "torch-checkpoint"))
        for state_form in STATE_DICT_FORMS if ZOO[name].sample else ():
            path = state_form.write(model, tmp_path / f"state-{state_form.name}{state_form.suffix}")
            written.append((path, "safetensors" if "safetensors" in state_form.name else "torch-checkpoint"))
        if ZOO[name].scripts:
            script(model, tmp_path / "script")
            written.append((tmp_path / "script", "torchscript"))
        if ZOO[name].graphs:
            trace(model, tmp_path / "trace", ZOO[name].inputs())
            export(model, tmp_path / "exported.pt2", ZOO[name].inputs())
            written += [(tmp_path / "trace", "torchscript"), (tmp_path / "exported.pt2", "exported-program")]
    assert {path.name: acceptors(path) for path, _ in written} == {path.name: [item] for path, item in written}


def test_suffixes_mean_nothing(tmp_path: Path) -> None:
    save_file(network("plain_cnn", Mode.EVAL).state_dict(), tmp_path / "model.pt")
    torch.save(network("plain_cnn", Mode.EVAL), tmp_path / "model.safetensors")
    (tmp_path / "model.onnx").write_bytes(pickle.dumps(network("plain_cnn", Mode.EVAL)))
    assert acceptors(tmp_path / "model.pt") == ["safetensors"]
    assert acceptors(tmp_path / "model.safetensors") == ["torch-checkpoint"]
    assert acceptors(tmp_path / "model.onnx") == ["torch-checkpoint"]


def test_sniffing_reads_no_more_than_the_head_and_the_directory(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"net.weight": torch.zeros(1 << 20)}, path)
    with opened(path) as target:
        assert [item.name for item in FORMATS if item.sniff(target)] == ["torch-checkpoint"]
        assert target.source.bytes_read < 16 << 10


@pytest.mark.parametrize("item", FORMATS, ids=lambda item: item.name)
def test_formats_say_what_they_tell(item: Format) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", item.name)
    for text in (item.summary, item.tells, item.cannot_tell):
        assert len(text) > 10
        assert "\n" not in text


def test_names_of_formats_and_reporters_are_unique() -> None:
    assert len({item.name for item in FORMATS}) == len(FORMATS)
    assert len({item.name for item in REPORTERS}) == len(REPORTERS)
    suffixes = [suffix for item in REPORTERS for suffix in item.suffixes]
    assert len(set(suffixes)) == len(suffixes)


def _empty_audit() -> Audit:
    report = Report(source="model.pt", format="torch-checkpoint", intent=Intent.DEPLOY)
    return Audit(reports=(report,), intent=Intent.DEPLOY, fail_on=Severity.ERROR, exit_code=0)


@pytest.fixture(scope="module")
def real_audit(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    """An audit of a directory with findings, a state dict, a file that cannot be read and one that is no model."""
    directory = tmp_path_factory.mktemp("models")
    torch.save(network("resnet", Mode.MIXED), directory / "model.pt")
    torch.save({"ema": network("resnet", Mode.EVAL).state_dict()}, directory / "state.pt")
    (directory / "broken.pt").write_bytes((directory / "model.pt").read_bytes()[:5000])
    (directory / "notes.txt").write_text("nothing")
    return run([str(directory)], Options())


@pytest.mark.parametrize("colour", [True, False], ids=["colour", "plain"])
@pytest.mark.parametrize("item", REPORTERS, ids=lambda item: item.name)
def test_reporters_render_an_empty_and_a_real_audit(item: Reporter, colour: bool, real_audit: Audit) -> None:
    for audit in (_empty_audit(), real_audit):
        stream = io.StringIO()
        item.render(audit, stream, colour)
        written = stream.getvalue()
        assert written.endswith("\n")
        for report in audit.reports:
            assert Path(report.source).name in written
            assert all(finding.code in written for finding in report.findings)
        if not colour:
            assert "\x1b" not in written
        if item.name == "json":
            json.loads(written)


def test_the_real_audit_has_something_of_everything(real_audit: Audit) -> None:
    assert real_audit.exit_code == 3
    assert {finding.code for report in real_audit.reports for finding in report.findings} == {"BN102", "BN111"}
    assert [Path(report.source).name for report in real_audit.reports if report.failed] == ["broken.pt"]


@pytest.mark.parametrize("name", ["resnet", "hidden_norms", "no_track", "instance_norm_tracked"])
def test_an_audit_is_repeatable_and_leaves_the_file_alone(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(network(name, Mode.MIXED), path)
    before = path.read_bytes(), path.stat().st_mtime_ns
    first, second = check(path), check(path)
    assert first.findings == second.findings
    assert [norm.path for norm in first.norms] == [norm.path for norm in second.norms]
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
