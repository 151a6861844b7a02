"""What a bug report needs to know about a machine, without importing what is heavy."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib import metadata

LIBRARIES = ("torch", "numpy", "onnx", "onnxruntime", "typer", "rich")
"""Modules; some come under several names of distributions: onnxruntime-gpu, torch nightlies."""

ABSENT = "not installed"


def found() -> Iterator[tuple[str, str]]:
    """Yield (name, version) of Python, the platform and the libraries; what is installed is read, never imported."""
    yield "python", f"{platform.python_version()} ({platform.python_implementation()})"
    yield "platform", platform.platform()
    for module in LIBRARIES:
        yield module, _version(module)


def _version(module: str) -> str:
    """Return the version of the distribution that has the module, with its name where that is another one."""
    try:
        return metadata.version(module)
    except metadata.PackageNotFoundError:
        names = dict.fromkeys(metadata.packages_distributions().get(module, ()))
        return ", ".join(f"{metadata.version(name)} ({name})" for name in names) or ABSENT
