"""A rule's documentation as a SARIF viewer shows it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bn_audit.reporters._json_values import Json
from bn_audit.subject.rule_description import RuleDescription

SHORTEST = 1000
"""GitHub refuses descriptions beyond 1024 characters."""

EXAMPLE = "Example"
_LABEL = re.compile(r"([A-Z][A-Za-z ]{2,28}):(.*)", re.DOTALL)
_SPECIAL = re.compile(r"([\\`*{}\[\]<>#|~]|(?<!\w)_|_(?!\w))")


def descriptor(rule: RuleDescription) -> dict[str, Json]:
    """Return a ``reportingDescriptor`` (SARIF 2.1.0, section 3.49)."""
    parts = dict(sections(rule.documentation))
    told = [text for label in ("What it checks", "Why it matters") if (text := parts.get(label))] or [rule.summary]
    return {
        "id": rule.code,
        "name": "".join(word.capitalize() for word in rule.name.split("-")),
        "shortDescription": {"text": f"{rule.name}: {rule.summary}"[:SHORTEST]},
        "fullDescription": {"text": _cut(" ".join(text[:1].upper() + text[1:] for text in told))},
        "help": {"text": rule.documentation, "markdown": _markdown(rule)},
        "defaultConfiguration": {"level": rule.severity.value},
        "properties": {"tags": ["batch-normalization", "reliability"]},
    }


def sections(documentation: str) -> Iterator[tuple[str, str]]:
    """Yield (label, text) of a rule's documentation; the first sentence has the label ``""``, a text is one line.

    The example keeps its lines.
    """
    for paragraph in re.split(r"\n(?=\S)", documentation.strip()):
        match = _LABEL.match(paragraph)
        label, text = (match[1], match[2]) if match else ("", paragraph)
        if label == EXAMPLE and "\n" in text.strip("\n "):
            first, _, rest = text.partition("\n")
            yield label, "\n".join(filter(None, (first.strip(), *(row[4:] for row in rest.rstrip().splitlines()))))
        else:
            yield label, " ".join(text.split())


def _markdown(rule: RuleDescription) -> str:
    rows = [f"**{rule.code} {rule.name}**: {escaped(rule.summary)}"]
    for label, text in sections(rule.documentation):
        if label == EXAMPLE and "\n" in text:
            rows.append(f"**{label}:**\n\n```python\n{text}\n```")
        else:
            rows.append(f"**{label}:** {escaped(text)}" if label else escaped(text))
    return "\n\n".join(rows)


def escaped(text: str) -> str:
    """Return `text` with what Markdown would take for its own made literal."""
    return _SPECIAL.sub(r"\\\1", text)


def _cut(text: str) -> str:
    return text if len(text) <= SHORTEST else text[: SHORTEST - 4].rpartition(" ")[0] + " ..."
