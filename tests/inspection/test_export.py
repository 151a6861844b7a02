"""What ``inspect --export`` writes, compared with what torch computes."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
import struct
import subprocess
import zipfile
from pathlib import Path

import numpy
import pytest
import torch
from torch import nn

from bn_audit.errors import TensorUnavailableError, UsageError
from bn_audit.inspection.export import require_eps, writer_for
from bn_audit.inspection.figures import Figures, Fold, as_single, digits, fold, load
from bn_audit.subject.norm import Mode, ModeOrigin, NormKind, NormLayer
from bn_audit.subject.tensor import TensorRef

GCC = shutil.which("gcc")
HOSTILE_PATHS = (
    "a.b",
    "a_b",
    "A.B",
    "",
    "1",
    "int",
    "x */ int y; /*",
    "tail\\",
    'q"??/',
    "new\nline",
    "=cmd|' /C calc'!A0",
    "@SUM(A1)",
    "-1+1",
    "+x",
    "../../etc/passwd",
    "..",
    "C:\\x",
    "\x1b[2J",
    "schicht.\u00e4\u6f22",
    "\u202eevil",
    "\udc80",
    "n" * 5000,
)


def ref(name: str, tensor: torch.Tensor) -> TensorRef:
    dtype = str(tensor.dtype).removeprefix("torch.")
    data = bytes(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy())
    return TensorRef(name=name, dtype=dtype, shape=tuple(tensor.shape), load=lambda: data)


def layer(module: nn.BatchNorm2d, path: str = "bn1", **changes: object) -> NormLayer:
    tensors = {name: ref(f"{path}.{name}", tensor) for name, tensor in module.state_dict().items()}
    values: dict[str, object] = {
        "model": "",
        "path": path,
        "kind": NormKind.BATCH_NORM,
        "type_name": "torch.nn.modules.batchnorm.BatchNorm2d",
        "mode": Mode.EVAL,
        "mode_origin": ModeOrigin.MODULE_FLAG,
        "uses_batch_statistics": False,
        "num_features": module.num_features,
        "eps": module.eps,
        "momentum": module.momentum,
        "affine": module.affine,
        "track_running_stats": module.track_running_stats,
    }
    return NormLayer(**{**values, **tensors, **changes})  # type: ignore[arg-type]


def trained(channels: int = 7, seed: int = 0, **options: object) -> nn.BatchNorm2d:
    torch.manual_seed(seed)
    module = nn.BatchNorm2d(channels, **options)  # type: ignore[arg-type]
    if module.affine:
        nn.init.normal_(module.weight, 1.0, 0.3)
        nn.init.normal_(module.bias)
    for _ in range(5):
        module(torch.randn(8, channels, 4, 4) * torch.rand(channels).view(1, -1, 1, 1) * 3 + 1)
    return module.eval()


def written(suffix: str, layers: list[Figures], source: str = "model.pt") -> bytes:
    name = f"layers{suffix}"
    return writer_for(Path(name))(source, layers, name)


def folded(figures: Figures) -> Fold:
    result = fold(figures)
    assert isinstance(result, Fold), result
    return result


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("eps", [1e-5, 1e-3, 0.1])
def test_the_fold_computes_what_torch_computes(affine: bool, eps: float) -> None:
    module = trained(affine=affine, eps=eps).double()
    result = folded(load(layer(module)))
    inputs = torch.randn(3, 7, 5, 5, dtype=torch.float64)
    scale, shift = (
        torch.tensor(column, dtype=torch.float64).view(1, -1, 1, 1) for column in (result.scale, result.shift)
    )
    torch.testing.assert_close(scale * inputs + shift, module(inputs), rtol=1e-12, atol=1e-12)


def test_zero_and_negative_variances_fold_to_what_ieee_says() -> None:
    module = trained(3)
    module.eps = 0.0
    module.running_var = torch.tensor([0.0, -1.0, 4.0])
    scale = folded(load(layer(module))).scale
    assert math.isinf(scale[0])
    assert math.isnan(scale[1])
    assert scale[2] == pytest.approx(module.weight.tolist()[2] / 2)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"running_mean": None}, "no running statistics"),
        ({"running_mean": None, "running_var": None}, "no running statistics"),
        ({"eps": None}, "no eps"),
        ({"weight": None}, "no weight"),
        ({"bias": ref("b", torch.zeros(3))}, "tensors of different lengths"),
    ],
)
def test_what_cannot_be_folded_says_why(changes: dict[str, object], reason: str) -> None:
    assert fold(load(layer(trained(), **changes))) == reason


def test_a_tensor_without_bytes_is_named_and_nothing_is_folded_from_a_guess() -> None:
    def unavailable() -> bytes:
        raise TensorUnavailableError("bn1.weight: lies on the meta device")

    lost = TensorRef(name="bn1.weight", dtype="float32", shape=(7,), load=unavailable)
    figures = load(layer(trained(), weight=lost, affine=None))
    assert figures.problems == ("bn1.weight: lies on the meta device",)
    assert fold(figures) == "no weight"


def test_eps_is_asked_for_and_never_invented() -> None:
    bare = layer(trained(eps=1e-3), eps=None)
    with pytest.raises(UsageError, match=r"bn1: .*--eps"):
        require_eps([load(bare)])
    require_eps([load(bare, 1e-3)])
    assert fold(load(bare, 1e-3)) == fold(load(layer(trained(eps=1e-3))))


def test_the_eps_of_the_artifact_wins() -> None:
    assert load(layer(trained(eps=1e-3)), 0.5).eps == 1e-3


def test_an_unknown_suffix_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"\.npz, \.csv, \.json, \.h"):
        writer_for(Path("layers.xlsx"))


@pytest.mark.parametrize(
    ("weight", "variance", "dead"),
    [
        ([1.0, 0.0, -0.5], [1.0, 1.0, 1.0], 1),
        ([1.0, 0.005, 0.02], [1.0, 1.0, 1.0], 1),
        ([1.0, 1.0, 1.0], [1.0, 0.0, 1e-13], 2),
        ([0.0, 1.0, 1.0], [0.0, 1.0, 1.0], 1),
        ([0.0, 0.0, 0.0], [1.0, 1.0, 1.0], 3),
    ],
)
def test_dead_channels(weight: list[float], variance: list[float], dead: int) -> None:
    module = trained(3)
    module.weight.data, module.running_var = torch.tensor(weight), torch.tensor(variance)
    assert load(layer(module)).dead == dead


def test_npz_holds_every_tensor_bit_for_bit() -> None:
    module, wide = trained(), trained(3, seed=1).double()
    figures = [load(layer(module, preceding="conv1")), load(layer(wide, "deep.bn", model="ema"))]
    with numpy.load(io.BytesIO(written(".npz", figures)), allow_pickle=False) as arrays:
        for prefix, source in (("bn1", module), ("ema/deep.bn", wide)):
            for role in ("weight", "bias", "running_mean", "running_var"):
                expected = source.state_dict()[role].numpy()
                assert arrays[f"{prefix}/{role}"].dtype == expected.dtype
                numpy.testing.assert_array_equal(arrays[f"{prefix}/{role}"], expected)
            assert arrays[f"{prefix}/eps"] == 1e-5
        assert arrays["bn1/preceding"] == "conv1"
        numpy.testing.assert_array_equal(arrays["bn1/scale"], numpy.float32(folded(figures[0]).scale))
        numpy.testing.assert_array_equal(arrays["ema/deep.bn/shift"], folded(figures[1]).shift)


def test_equal_layers_give_equal_files() -> None:
    assert written(".npz", [load(layer(trained()))]) == written(".npz", [load(layer(trained()))])


def test_csv_has_one_row_for_each_channel() -> None:
    module = trained()
    rows = list(csv.DictReader(io.StringIO(written(".csv", [load(layer(module))]).decode(), newline="")))
    assert [row["channel"] for row in rows] == [str(channel) for channel in range(7)]
    for role in ("weight", "bias", "running_mean", "running_var"):
        assert [numpy.float32(row[role]) for row in rows] == module.state_dict()[role].tolist()
    assert {row["layer"] for row in rows} == {"bn1"}
    assert float(rows[0]["eps"]) == 1e-5


def test_json_holds_what_the_layer_holds() -> None:
    module = trained(3)
    module.running_var[0], module.bias.data[0] = math.nan, math.inf
    document = json.loads(
        written(".json", [load(layer(module)), load(layer(trained(), "b", running_mean=None))]),
        parse_constant=lambda token: pytest.fail(token),
    )
    first, second = document["layers"]
    assert first["running_var"][0] == first["scale"][0] == "nan"
    assert first["bias"][0] == "inf"
    assert numpy.float32(first["weight"]).tolist() == module.weight.tolist()
    assert second["not_folded"] == "no running statistics"
    assert second["running_mean"] is second["scale"] is None


@pytest.mark.parametrize("bits", [0x00000001, 0x007FFFFF, 0x3DCCCCCD, 0x7F7FFFFF, 0xBF800001, 0x80000000, 0x4B800001])
def test_float32_survives_the_way_through_decimal_digits(bits: int) -> None:
    value = struct.unpack("<f", struct.pack("<I", bits))[0]
    assert struct.pack("<f", float(digits(value, double=False))) == struct.pack("<I", bits)


def test_float64_beyond_float32_becomes_infinity() -> None:
    assert as_single(1e300) == math.inf
    assert as_single(-1e300) == -math.inf


def hostile_layers() -> list[Figures]:
    return [
        load(layer(trained(2, seed=number), path, model=HOSTILE_PATHS[number - 1], preceding=path))
        for number, path in enumerate(HOSTILE_PATHS)
    ]


def test_no_csv_cell_is_a_formula_and_no_name_starts_a_row() -> None:
    rows = list(csv.reader(io.StringIO(written(".csv", hostile_layers()).decode("utf-8"), newline="")))
    assert len(rows) == 1 + 2 * len(HOSTILE_PATHS)
    number = re.compile(r"-?[0-9.]+(e[+-]?[0-9]+)?\Z")
    for row in rows:
        assert all(cell[:1] not in ("=", "+", "-", "@", "\t", "\r") or number.match(cell) for cell in row)
        assert all(cell.isprintable() for cell in row)


def test_no_archive_member_leaves_the_folder_it_is_unpacked_in() -> None:
    with zipfile.ZipFile(io.BytesIO(written(".npz", hostile_layers()))) as archive:
        names = archive.namelist()
    assert len(names) == len(set(names)) == 8 * len(HOSTILE_PATHS)
    for name in names:
        assert ".." not in Path(name).parts
        assert not name.startswith("/")
        assert "\\" not in name
        assert ":" not in name


def compiled(directory: Path, program: str, *flags: str) -> Path:
    assert GCC is not None
    (directory / "main.c").write_text(program)
    binary = directory / "main"
    strict = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-trigraphs")
    subprocess.run([GCC, *strict, *flags, "main.c", "-o", str(binary), "-lm"], cwd=directory, check=True)
    return binary


needs_gcc = pytest.mark.skipif(GCC is None, reason="no gcc on this machine")


@needs_gcc
def test_the_header_computes_what_torch_computes(tmp_path: Path) -> None:
    module = trained(5)
    (tmp_path / "layers.h").write_bytes(
        written(".h", [load(layer(module, "layer1.0.bn1", preceding="layer1.0.conv1"))])
    )
    program = """
#include <stdio.h>
#include "layers.h"
#include "layers.h"
int main(void) {
    for (int c = 0; c < BN_LAYER1_0_BN1_CHANNELS; c++) {
        float x = 0.5f * (float)c - 1.0f;
        float y = (x - bn_layer1_0_bn1_running_mean[c]) / sqrtf(bn_layer1_0_bn1_running_var[c] + BN_LAYER1_0_BN1_EPS)
                  * bn_layer1_0_bn1_weight[c] + bn_layer1_0_bn1_bias[c];
        float z = bn_layer1_0_bn1_scale[c] * x + bn_layer1_0_bn1_shift[c];
        printf("%.9g %.9g %a\\n", y, z, bn_layer1_0_bn1_weight[c]);
    }
    return 0;
}
"""
    binary = compiled(tmp_path, "#include <math.h>" + program)
    rows = [row.split() for row in subprocess.check_output([binary], text=True).splitlines()]
    inputs = torch.tensor([[0.5 * channel - 1.0 for channel in range(5)]]).view(1, 5, 1, 1)
    expected = module(inputs).view(-1)
    for column in (0, 1):
        torch.testing.assert_close(torch.tensor([float(row[column]) for row in rows]), expected, rtol=1e-5, atol=1e-6)
    assert [float.fromhex(row[2]) for row in rows] == module.weight.tolist()


@needs_gcc
def test_the_header_compiles_whatever_the_layers_are_called(tmp_path: Path) -> None:
    odd = trained(2)
    odd.running_mean[0], odd.running_var[0], odd.bias.data[1] = math.nan, math.inf, -math.inf
    empty = layer(
        trained(2), "empty", num_features=0, **dict.fromkeys(("running_mean", "running_var", "weight", "bias"))
    )
    content = written(".h", [*hostile_layers(), load(layer(odd, "odd")), load(empty)], 'a */ #error "\n?/.pt')
    (tmp_path / "layers.h").write_bytes(content)
    compiled(tmp_path, '#include "layers.h"\nint main(void) { return bn_odd_scale[1] == 0.0f; }\n')
    names = re.findall(rb"(?:#define|static const float) ([A-Za-z_]\w*)", content)
    assert len({name.upper() for name in names}) == len(names)


def test_the_header_is_ascii_and_free_of_trigraphs() -> None:
    content = written(".h", hostile_layers()).decode("ascii")
    assert "??" not in content
    assert not re.search(r"\\$", content, re.MULTILINE)
    assert all(char.isprintable() or char == "\n" for char in content)


def test_the_include_guard_follows_the_file_name() -> None:
    content = writer_for(Path("my-net v2.h"))("x", [], "my-net v2.h").decode()
    assert "#ifndef BN_AUDIT_MY_NET_V2_H\n#define BN_AUDIT_MY_NET_V2_H\n" in content
