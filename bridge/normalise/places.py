"""Places and contact cards."""

from __future__ import annotations

from typing import Any

from bridge.normalise.fields import Fields, flag, items, known, label, number, text, whole

_MAX_VCARD_CHARS = 20_000
_MAX_NUMBERS = 20


def location(body: Fields, *, live: bool) -> tuple[str | None, Fields]:
    """What to show of a place, and its payload."""
    latitude, longitude = number(body, "degreesLatitude"), number(body, "degreesLongitude")
    name, address = label(body, "name"), label(body, "address")
    shown = name or address or text(body, "caption", "comment")
    if shown is None and latitude is not None and longitude is not None:
        shown = f"{latitude:.6f}, {longitude:.6f}"
    return shown, known(name=name, address=address, url=label(body, "URL")) | {
        "latitude": latitude,
        "longitude": longitude,
        "live": live or flag(body, "isLive"),
    } | known(
        accuracy_m=whole(body, "accuracyInMeters"),
        caption=label(body, "caption", "comment"),
        sequence=whole(body, "sequenceNumber", most=2**53) if live else None,
    )


def contacts(cards: list[Fields]) -> tuple[str | None, Fields]:
    """The names on contact cards, and their payload."""
    found = [_card(each) for each in cards]
    names = [str(card["name"]) for card in found if card.get("name")]
    return ", ".join(names) or None, {"contacts": found}


def cards_of(body: Fields) -> list[Fields]:
    """The cards of a message with several."""
    return items(body, "contacts")


def _card(body: Fields) -> dict[str, Any]:
    vcard = text(body, "vcard", limit=_MAX_VCARD_CHARS)
    return {"name": label(body, "displayName"), "numbers": _numbers(vcard or ""), "vcard": vcard}


def _numbers(vcard: str) -> list[str]:
    """Digits of the TEL lines; WhatsApp's own number of a line (`waid`) goes first."""
    found: list[str] = []
    for line in vcard.splitlines():
        properties, _, value = line.partition(":")
        parts = properties.split(";")
        if parts[0].rpartition(".")[2].upper() != "TEL":
            continue
        waid = next((part[5:] for part in parts if part.lower().startswith("waid=")), "")
        digits = "".join(char for char in waid or value if char in "0123456789")
        if digits and digits not in found and len(digits) <= 20:
            found.append(digits)
    return found[:_MAX_NUMBERS]
