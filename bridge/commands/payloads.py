"""The types of commands and their payloads, parsed.

The database refuses bad payloads at insert; they are parsed here nevertheless, because a newer
database may take what this version does not know.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from bridge.errors import CommandError

T = TypeVar("T")

LIFECYCLE_TYPES = ("connect", "disconnect", "logout")


class NotAvailable(CommandError):
    """A type or an option that this version of the bridge does not know."""

    code = "not_available"


class BadPayload(CommandError):
    """The payload has not the form that its type wants."""

    code = "bad_payload"


class Payload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base: an unknown key is an error, never ignored."""


class ConnectPayload(Payload, frozen=True):
    """`connect`: by QR, or by a code for the phone with that number."""

    method: str
    phone: str | None = None


class EmptyPayload(Payload, frozen=True):
    """`disconnect`, `logout`."""


class SendTextPayload(Payload, frozen=True):
    """`send` of type `text`. What has a default and is not available yet must have that value."""

    to: str
    type: str
    text: str
    mentions: list[str] = msgspec.field(default_factory=list)
    link_preview: bool = False
    quoted_message_id: str | None = None
    simulate_typing: bool = False

    def refuse_what_is_missing(self) -> None:
        """Nothing that was asked for is left out silently.

        Raises:
            NotAvailable: naming the first option.
        """
        for option in ("mentions", "quoted_message_id", "simulate_typing"):
            if getattr(self, option):
                raise NotAvailable(f"`send` cannot do `{option}` in this version of the bridge.")


class MarkReadPayload(Payload, frozen=True):
    """`mark_read`: everything, or everything up to a message."""

    conversation_id: str
    until_message_id: str | None = None


def parse(payload: dict[str, Any], shape: type[T]) -> T:
    """The payload as a struct.

    Raises:
        BadPayload: saying what is wrong.
    """
    try:
        return msgspec.convert(payload, shape)
    except msgspec.ValidationError as error:
        raise BadPayload(f"The payload is wrong: {error}.") from error


def digits_of(phone: str) -> str:
    """A phone number as WhatsApp wants it for pairing: digits, with the country's code.

    Raises:
        BadPayload: if it is none.
    """
    digits = "".join(c for c in phone if c.isascii() and c.isdigit())
    if not 7 <= len(digits) <= 15:
        raise BadPayload("`phone` must be an international number, like +55 11 91234-5678.")
    return digits
