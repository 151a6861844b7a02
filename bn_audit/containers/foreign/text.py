"""What a text file is that was taken for a model: (name, advice, is it a model)."""

from __future__ import annotations

import re

from bn_audit.containers.target import FileTarget

Named = tuple[str, str, bool]

_EXPORT = "export the model to ONNX from the framework that wrote it and check that"
_SAVE_BINARY = "load it with the onnx library, save it as model.onnx and check that"
_NO_MODEL = "no model file: check the path"
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")


def name_pointer(target: FileTarget) -> tuple[str, str] | None:
    """Return (name, advice) where the file stands in for one that was not fetched; None for any other file."""
    text = _decode(target.head, whole=target.source.size <= len(target.head)) or ""
    if text.startswith("version https://git-lfs.github.com/spec/"):
        size = re.search(r"^size (\d{1,15})$", text, re.MULTILINE)
        of = f" to a file of {size[1]} bytes" if size else ""
        return f"a Git LFS pointer{of}", "run git lfs pull"
    if re.match(r"(\.\./)*(\.git)?/annex/objects/", text):
        return "a git-annex pointer", "run git annex get"
    return None


def name_text(target: FileTarget) -> Named | None:
    """Return what kind of text file this is; None where it is not text."""
    text = _decode(target.head, whole=target.source.size <= len(target.head))
    if text is None:
        return None
    begin = text.lstrip("\ufeff \t\r\n")
    lowered = begin[:512].lower()
    if lowered.startswith(("<!doctype html", "<html", "<head")):
        return "an HTML page", "the download gave a web page instead of the file: download it again, logged in", False
    if lowered.startswith(("<?xml", "<error", "<net ")):
        return _name_xml(begin)
    if begin[:1] in ("{", "["):
        return _name_json(begin)
    if re.search(r"^(import \w|from [\w.]+ import |def \w+\(|class \w+[(:])", text, re.MULTILINE):
        return "Python source code", "check a factory instead: bn-audit check package.module:factory", False
    if re.match(r"<\s*ir_version\s*:|ir_version:\s*\d", begin):
        return "an ONNX model as text", _SAVE_BINARY, True
    if begin.startswith("7767517"):
        return "a parameter file of ncnn", _EXPORT, True
    if re.search(r"^\s*layers?\s*\{", text, re.MULTILINE):
        return "a network description of Caffe", _EXPORT, True
    if begin.startswith("model_checkpoint_path:"):
        return "the list of TensorFlow checkpoints", _EXPORT, True
    return "a text file", _NO_MODEL, False


def _decode(head: bytes, *, whole: bool) -> str | None:
    """Return the start of a text file; None where it is not UTF-8 text."""
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        # The head may end within a character.
        if whole or error.start < len(head) - 3:
            return None
        text = head[: error.start].decode("utf-8")
    return None if _CONTROL.search(text) else text


def _name_xml(begin: str) -> Named:
    if re.search(r"<net\s[^>]*version=", begin):
        return "a network of OpenVINO", "check the ONNX file or checkpoint that it was converted from", True
    if "<Error>" in begin and "<Code>" in begin:
        return "an error message of a storage service", "the download failed: download it again with access", False
    if re.search(r"<html[\s>]", begin[:1024], re.IGNORECASE):
        return "an HTML page", "the download gave a web page instead of the file: download it again, logged in", False
    return "an XML document", _NO_MODEL, False


def _name_json(begin: str) -> Named:
    if re.match(r'\{\s*"(ir_version|irVersion)"', begin):
        return "an ONNX model as JSON", _SAVE_BINARY, True
    if '"modelTopology"' in begin:
        return "a TensorFlow.js model", _EXPORT, True
    if '"nodes"' in begin and '"arg_nodes"' in begin:
        return "a network description of MXNet", _EXPORT, True
    if '"rootModelIdentifier"' in begin:
        return "the manifest of a Core ML package", _EXPORT, True
    if '"class_name"' in begin and '"config"' in begin:
        return "a model description of Keras", _EXPORT, True
    return "a JSON document", "name the model file beside it", False
