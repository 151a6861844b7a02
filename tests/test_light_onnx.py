"""ONNX files are read and judged without numpy or any library of ONNX, and without any other reader."""

from __future__ import annotations

import json
from pathlib import Path

from command import HEAVY, bn_audit_command
from onnx import parser


def written(directory: Path, training: int) -> Path:
    outputs = "z, r1, r2" if training else "z"
    vectors = "<float[3] s = {1,2,3}, float[3] b = {4,5,6}, float[3] m = {7,8,9}, float[3] v = {10,11,12}>"
    text = f"""<ir_version: 9, opset_import: ["" : 18]> g (float[N,3,4,4] x) => (float[N,3,4,4] z) {vectors} {{
        {outputs} = BatchNormalization <training_mode: int = {training}> (x, s, b, m, v)
    }}"""
    path = directory / "model.onnx"
    path.write_bytes(parser.parse_model(text).SerializeToString())
    return path


def test_check_without_the_flow_needs_no_heavy_library(tmp_path: Path) -> None:
    outcome = bn_audit_command("check", written(tmp_path, training=1), "--no-flow", "--format", "json", without=HEAVY)
    lines = outcome.err.splitlines()
    assert lines[-1] == "attempted: ", outcome.text
    loaded = [name.split(".")[2:] for name in lines[-2].split(",") if name.startswith("bn_audit.formats._")]
    assert {folder for folder, *module in loaded if module and module != ["layout"]} == {"_onnx"}
    (report,) = json.loads(outcome.out)["reports"]
    assert report["format"] == "onnx"
    assert [finding["code"] for finding in report["findings"]] == ["BN301"]
    assert report["norms"][0]["uses_batch_statistics"] is True
    assert outcome.code == 1


def test_inspect_needs_no_heavy_library(tmp_path: Path) -> None:
    outcome = bn_audit_command("inspect", written(tmp_path, training=0), without=HEAVY)
    assert outcome.err.splitlines()[-1] == "attempted: ", outcome.text
    assert outcome.code == 0
    assert "eval" in outcome.out
