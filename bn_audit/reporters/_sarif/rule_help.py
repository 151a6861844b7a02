"""A rule's documentation as a SARIF viewer shows it."""

from __future__ import annotations

import re

from bn_audit.reporters._json_values import Json
from bn_audit.reporters._rule_text import EXAMPLE, WHAT, WHY, sections
from bn_audit.subject.rule_description import RuleDescription

SHORTEST = 1000
"""GitHub refuses descriptions beyond 1024 characters."""

_SPECIAL = re.compile(r"([\\`*{}\[\]<>#|~]|(?<!\w)_|_(?!\w))")


def descriptor(rule: RuleDescription) -> dict[str, Json]:
    """Return a ``reportingDescriptor`` (SARIF 2.1.0, section 3.49)."""
    parts = dict(sections(rule.documentation))
    told = [text for label in (WHAT, WHY) if (text := parts.get(label))] or [rule.summary]
    return {
        "id": rule.code,
        "name": "".join(word.capitalize() for word in rule.name.split("-")),
        "shortDescription": {"text": f"{rule.name}: {rule.summary}"[:SHORTEST]},
        "fullDescription": {"text": _cut(" ".join(text[:1].upper() + text[1:] for text in told))},
        "help": {"text": rule.documentation, "markdown": _markdown(rule)},
        "defaultConfiguration": {"level": rule.severity.value},
        "properties": {"tags": ["batch-normalization", "reliability"]},
    }


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
