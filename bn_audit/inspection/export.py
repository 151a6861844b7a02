"""Writing the numbers of every norm layer to a file, its kind chosen by the suffix."""

from __future__ import annotations

import csv
import io
import json
import math
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bn_audit.errors import UsageError
from bn_audit.inspection.c_header import write_header
from bn_audit.inspection.figures import ROLES, Figures, Fold, as_single, digits, fold
from bn_audit.styled import clean

SCHEMA_ID = "bn-audit.layers.v1"


def writer_for(path: Path) -> Callable[[str, Sequence[Figures], str], bytes]:
    """Return the function that gives the bytes of the file from (source, layers, file name).

    Raises:
        UsageError: the suffix is of no kind that can be written.
    """
    writer = WRITERS.get(path.suffix.lower())
    if writer is None:
        known = ", ".join(WRITERS)
        raise UsageError(f"--export {path}: unknown suffix {path.suffix!r}: use one of {known}")
    return writer


def require_eps(layers: Sequence[Figures]) -> None:
    """Refuse to export layers that could be folded but for their eps.

    Raises:
        UsageError: names the first such layer.
    """
    for figures in layers:
        if fold(figures) == "no eps":
            raise UsageError(
                f"{figures.norm.path or '(root)'}: this artifact records no eps, and without it there is no folded "
                "scale: give the eps of the model's code, such as --eps 1e-5"
            )


def _write_npz(_source: str, layers: Sequence[Figures], _name: str) -> bytes:
    """Return a ``.npz`` with ``<model>/<path>/<role>`` arrays: float32, or float64 where the layer stores float64."""
    import numpy

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for prefix, figures in zip(_keys(layers), layers, strict=True):
            dtype = "<f8" if figures.is_double else "<f4"
            for role, values in _all_columns(figures).items():
                with numpy.errstate(over="ignore"):  # a float64 beyond float32 becomes infinity, as in the header
                    _add(archive, f"{prefix}/{role}", numpy.asarray(values, dtype=dtype))
            if figures.eps is not None:
                _add(archive, f"{prefix}/eps", numpy.asarray(figures.eps, dtype="<f8"))
            if figures.norm.preceding is not None:
                _add(archive, f"{prefix}/preceding", numpy.asarray(figures.norm.preceding.rstrip("\0")))
    return stream.getvalue()


def _add(archive: zipfile.ZipFile, key: str, array: object) -> None:
    """Add one array under a fixed date, so that equal layers give equal files."""
    import numpy

    stream = io.BytesIO()
    numpy.lib.format.write_array(stream, numpy.asanyarray(array), allow_pickle=False)
    archive.writestr(zipfile.ZipInfo(f"{key}.npy"), stream.getvalue(), zipfile.ZIP_DEFLATED)


def _keys(layers: Sequence[Figures]) -> Iterator[str]:
    """Yield a unique archive folder for each layer; a hostile path cannot lead out of where the archive is unpacked."""
    taken: set[str] = set()
    for figures in layers:
        parts = (figures.norm.model, figures.norm.path or "(root)")
        key = wanted = "/".join(_member(part) for part in parts if part)
        number = 1
        while key in taken:
            number += 1
            key = f"{wanted}~{number}"
        taken.add(key)
        yield key


def _member(part: str) -> str:
    safe = clean(part).replace("\\", "_").replace("/", "_").replace(":", "_")
    return safe if safe.strip(". ") else "_" + safe


def _write_csv(_source: str, layers: Sequence[Figures], _name: str) -> bytes:
    """Return one row for each channel."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    names = (*ROLES, "scale", "shift")
    writer.writerow(("model", "layer", "kind", "mode", "preceding", "channel", "eps", *names))
    for figures in layers:
        norm = figures.norm
        texts = (norm.model, norm.path, norm.kind.value, norm.mode.value, norm.preceding or "")
        eps = "" if figures.eps is None else repr(figures.eps)
        columns = _all_columns(figures)
        for channel in range(max(map(len, columns.values()), default=0)):
            cells = (_cell(columns.get(name), channel, figures.is_double) for name in names)
            writer.writerow((*map(_text_cell, texts), channel, eps, *cells))
    return stream.getvalue().encode("utf-8")


def _cell(values: Sequence[float] | None, channel: int, double: bool) -> str:
    return "" if values is None or channel >= len(values) else digits(values[channel], double)


def _text_cell(text: str) -> str:
    """Return a name that a spreadsheet shows and does not compute."""
    shown = clean(text)
    return f"'{shown}" if shown.startswith(("=", "+", "-", "@")) else shown


def _write_json(source: str, layers: Sequence[Figures], _name: str) -> bytes:
    """Return one JSON document in ASCII; what is not finite is the string ``"nan"``, ``"inf"`` or ``"-inf"``."""
    entries = []
    for figures in layers:
        norm = figures.norm
        reason = fold(figures)
        entries.append(
            {
                "model": norm.model,
                "path": norm.path,
                "kind": norm.kind.value,
                "mode": norm.mode.value,
                "preceding": norm.preceding,
                "num_features": figures.channels,
                "eps": None if figures.eps is None else _json_number(figures.eps, True),
                **dict.fromkeys((*ROLES, "scale", "shift")),
                **{
                    role: [_json_number(value, figures.is_double) for value in values]
                    for role, values in _all_columns(figures).items()
                },
                "not_folded": reason if isinstance(reason, str) else None,
            }
        )
    document = {"schema": SCHEMA_ID, "source": source, "layers": entries}
    return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode("ascii")


def _json_number(value: float, double: bool) -> float | str:
    rounded = float(digits(value, double))
    if math.isfinite(rounded):
        return rounded
    return "nan" if math.isnan(rounded) else "inf" if rounded > 0 else "-inf"


def _all_columns(figures: Figures) -> dict[str, Sequence[float]]:
    columns: dict[str, Sequence[float]] = dict(figures.columns)
    folded = fold(figures)
    if isinstance(folded, Fold):
        columns |= {"scale": folded.scale, "shift": folded.shift}
    if figures.is_double:
        return columns
    return {role: [as_single(value) for value in values] for role, values in columns.items()}


WRITERS: dict[str, Callable[[str, Sequence[Figures], str], bytes]] = {
    ".npz": _write_npz,
    ".csv": _write_csv,
    ".json": _write_json,
    ".h": write_header,
}
