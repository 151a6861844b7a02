"""The numbers of every norm layer as a C99 header of constant arrays."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from bn_audit.inspection.figures import ROLES, Figures, Fold, as_single, fold
from bn_audit.version import VERSION

_UNFIT = re.compile(r"[^A-Za-z0-9_]+", re.ASCII)
_UNFIT_IN_COMMENT = re.compile(r"[^A-Za-z0-9_.:(),<>/ -]", re.ASCII)
LONGEST_NAME = 200
PER_ROW = 6

PREAMBLE = """\
/* The normalisation layers of {source}, written by bn-audit {version}.
 *
 * In inference a layer computes for each channel c, with the constants below:
 *
 *     y = (x - running_mean[c]) / sqrt(running_var[c] + EPS) * weight[c] + bias[c]
 *
 * which is, but for rounding,
 *
 *     y = scale[c] * x + shift[c]
 *     scale = weight / sqrt(running_var + EPS), shift = bias - running_mean * scale
 *
 * A layer without weight and bias has weight 1 and bias 0. scale and shift were computed in double precision. Arrays
 * hold float32 values exactly; a float64 tensor is rounded to float32.
 */
"""


def write_header(source: str, layers: Sequence[Figures], name: str) -> bytes:
    """Return the header in ASCII; `name` is that of the file, for the include guard.

    Whatever a layer is called, its identifiers are unique, valid and no keyword, and no comment ends early.
    """
    guard = f"BN_AUDIT_{_UNFIT.sub('_', name)[:LONGEST_NAME].upper().strip('_')}"
    blocks = ["\n".join(_layer(prefix, figures)) for prefix, figures in zip(_prefixes(layers), layers, strict=True)]
    body = "\n\n".join(blocks)
    parts = [
        PREAMBLE.format(source=_comment(source), version=VERSION),
        f"#ifndef {guard}\n#define {guard}\n",
        "#include <math.h>\n" if re.search(r"\b(NAN|INFINITY)\b", body) else "",
        body + "\n" if body else "",
        f"#endif /* {guard} */\n",
    ]
    return "\n".join(filter(None, parts)).encode("ascii")


def _prefixes(layers: Sequence[Figures]) -> Iterator[str]:
    """Yield a unique prefix for each layer; unique without regard to case, as macros are in upper case."""
    taken: set[str] = set()
    for figures in layers:
        parts = filter(None, ("bn", figures.norm.model, figures.norm.path))
        prefix = wanted = _UNFIT.sub("_", "_".join(parts))[:LONGEST_NAME].rstrip("_")
        number = 1
        while prefix.upper() in taken:
            number += 1
            prefix = f"{wanted}_{number}"
        taken.add(prefix.upper())
        yield prefix


def _layer(prefix: str, figures: Figures) -> Iterator[str]:
    norm = figures.norm
    folded = fold(figures)
    facts = [norm.kind.value, f"mode {norm.mode.value}"]
    if norm.preceding is not None:
        facts.append(f"after {_comment(norm.preceding)}")
    if isinstance(folded, str):
        facts.append(f"not folded: {folded}")
    owner = f"model {_comment(norm.model)}, " if norm.model else ""
    yield f"/* {owner}{_comment(norm.path or 'root')}: {', '.join(facts)} */"
    yield f"#define {prefix.upper()}_CHANNELS {figures.channels}"
    if figures.eps is not None:
        yield f"#define {prefix.upper()}_EPS {_literal(figures.eps)}"
    columns: dict[str, Sequence[float]] = {role: figures.columns[role] for role in ROLES if role in figures.columns}
    if isinstance(folded, Fold):
        columns |= {"scale": folded.scale, "shift": folded.shift}
    for role, values in columns.items():
        if values:  # C has no empty arrays
            yield from _array(f"{prefix}_{role}", values)


def _array(name: str, values: Sequence[float]) -> Iterator[str]:
    yield f"static const float {name}[{len(values)}] = {{"
    literals = [_literal(value) for value in values]
    for start in range(0, len(literals), PER_ROW):
        yield f"    {', '.join(literals[start : start + PER_ROW])},"
    yield "};"


def _literal(value: float) -> str:
    """Return a float constant that a compiler reads back as the same float32."""
    single = as_single(value)
    if math.isnan(single):
        return "NAN"
    if math.isinf(single):
        return "INFINITY" if single > 0 else "-INFINITY"
    text = f"{single:.9g}"
    return text + ("f" if "." in text or "e" in text else ".0f")


def _comment(text: str) -> str:
    """Return a name in which no comment can end, no trigraph begins and no line is continued."""
    cut = text[:LONGEST_NAME] + ("..." if len(text) > LONGEST_NAME else "")
    return _UNFIT_IN_COMMENT.sub("_", cut)
