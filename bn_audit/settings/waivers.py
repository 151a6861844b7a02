"""``[[waiver]]`` tables."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime

from bn_audit.settings.keys import choice, code, text, texts
from bn_audit.settings.place import Place
from bn_audit.subject.design import DESIGN_CODES, Design
from bn_audit.subject.waiver import Waiver

KEYS = ("code", "path", "layer", "reason", "expires", "intent")


def read_waiver(table: Mapping[str, object], place: Place) -> Waiver:
    """Return the waiver of one table.

    Raises:
        UsageError: an unknown key or code, no reason, neither code nor intent, or a date that is none.
    """
    for name in table:
        if name not in KEYS:
            raise place.unknown(name, KEYS, "key")
    if "reason" not in table:
        raise place.wrong('has no reason: add reason = "..." for whoever reads the report')
    intent: Design | None = choice(Design)(table["intent"], place.at("intent")) if "intent" in table else None
    if "code" in table:
        codes = tuple(code(name, place.at("code")) for name in texts(table["code"], place.at("code")))
    elif intent is not None:
        codes = DESIGN_CODES[intent]
    else:
        raise place.wrong('names no rule: add code = "BN..." or the intent that it declares')
    if not codes:
        raise place.at("code").wrong("is empty: name the rule that is waived")
    return Waiver(
        codes=codes,
        reason=" ".join(text(table["reason"], place.at("reason")).split()),
        path=text(table["path"], place.at("path")) if "path" in table else None,
        directory=str(place.directory),
        layer=text(table["layer"], place.at("layer")) if "layer" in table else None,
        expires=_day(table["expires"], place.at("expires")) if "expires" in table else None,
        intent=intent,
        origin=str(place),
    )


def _day(value: object, place: Place) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        return date.fromisoformat(text(value, place))
    except ValueError:
        raise place.wrong(f"is {value!r}, which is no date: write year-month-day, such as 2027-01-31") from None
