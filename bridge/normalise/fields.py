"""Reading protobuf JSON that a stranger wrote: a field of the wrong type is as good as absent.

Bounds are those of what a row may hold, so that one message cannot fill a table.
"""

from __future__ import annotations

import base64
import binascii
import math
from typing import Any

from bridge.normalise.rows import clean

MAX_TEXT_CHARS = 65_536
MAX_LABEL_CHARS = 1_000
MAX_ITEMS = 200

Fields = dict[str, Any]


def sub(fields: Fields, name: str) -> Fields:
    """A nested message; empty if there is none."""
    value = fields.get(name)
    return value if isinstance(value, dict) else {}


def items(fields: Fields, name: str) -> list[Fields]:
    """The messages of a repeated field."""
    value = fields.get(name)
    if not isinstance(value, list):
        return []
    return [each for each in value[:MAX_ITEMS] if isinstance(each, dict)]


def texts(fields: Fields, name: str, limit: int = MAX_ITEMS) -> list[str]:
    """The strings of a repeated field."""
    value = fields.get(name)
    if not isinstance(value, list):
        return []
    return [clean(each)[:MAX_LABEL_CHARS] for each in value[:limit] if isinstance(each, str)]


def text(fields: Fields, *names: str, limit: int = MAX_TEXT_CHARS) -> str | None:
    """The first of these fields that holds more than blanks."""
    for name in names:
        value = fields.get(name)
        if isinstance(value, str) and value.strip():
            return clean(value[:limit])
    return None


def label(fields: Fields, *names: str) -> str | None:
    """As `text`, for names and titles."""
    return text(fields, *names, limit=MAX_LABEL_CHARS)


def flag(fields: Fields, name: str) -> bool:
    """Whether it is true."""
    return fields.get(name) is True


def whole(fields: Fields, name: str, *, most: int = 2**31 - 1) -> int | None:
    """A whole number from 0 to `most`; protobuf JSON writes long ones as strings."""
    value = fields.get(name)
    if isinstance(value, str):
        value = int(value) if value.isascii() and value.isdigit() and len(value) < 20 else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= most else None


def number(fields: Fields, name: str) -> float | None:
    """A finite number."""
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        value = float(value)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def word(fields: Fields, name: str) -> str | None:
    """The name of an enum's value."""
    value = fields.get(name)
    return value if isinstance(value, str) and value.isascii() and len(value) <= 60 else None


def blob(fields: Fields, name: str) -> bytes | None:
    """Bytes, if there are any."""
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        return None
    try:
        return base64.b64decode(value) or None
    except (binascii.Error, ValueError):
        return None


def known(**values: Any) -> Fields:
    """A payload without what is not known."""
    return {name: value for name, value in values.items() if value not in (None, "", [], {}, False)}
