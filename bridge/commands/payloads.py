"""The types of commands and their payloads, parsed.

The database refuses bad payloads at insert; they are parsed here nevertheless, because a newer
database may take what this version does not know.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec

from bridge.errors import CommandError
from bridge.ids import Jid

T = TypeVar("T")


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


class SendPayload(Payload, frozen=True):
    """What every `send` may have; `disappears_after_s` is the database's word, when it is taken."""

    to: str
    type: str
    quoted_message_id: str | None = None
    simulate_typing: bool = False
    forwarded: bool = False
    disappears_after_s: int | None = None


class SendTextPayload(SendPayload, frozen=True, kw_only=True):
    """`send` of type `text`; `mentions` are JIDs, which the database made of what was given."""

    text: str
    mentions: list[Jid] = []
    link_preview: bool = False


class SendFilePayload(SendPayload, frozen=True, kw_only=True):
    """`send` of a file, which is in the bucket or anywhere in the public internet."""

    storage_path: str | None = None
    media_url: str | None = None
    caption: str | None = None
    file_name: str | None = None
    mime_type: str | None = None
    ptt: bool = False
    view_once: bool = False
    mentions: list[Jid] = []


class SendLocationPayload(SendPayload, frozen=True, kw_only=True):
    """`send` of type `location`."""

    latitude: float
    longitude: float
    name: str | None = None
    address: str | None = None
    live: bool = False
    caption: str | None = None


class ContactCard(Payload, frozen=True):
    """Somebody on a contact card."""

    name: str
    numbers: list[str]


class SendContactPayload(SendPayload, frozen=True, kw_only=True):
    """`send` of type `contact`: one card, or several; the database made digits of the numbers."""

    name: str | None = None
    numbers: list[str] | None = None
    contacts: list[ContactCard] | None = None


class SendPollPayload(SendPayload, frozen=True, kw_only=True):
    """`send` of type `poll`; 0 selectable means as many as one likes."""

    question: str
    options: list[str]
    selectable: int = 1


class EditPayload(Payload, frozen=True):
    """`edit`."""

    message_id: str
    text: str
    mentions: list[Jid] = []


class ReactPayload(Payload, frozen=True):
    """`react`; an empty emoji takes the reaction back."""

    message_id: str
    emoji: str


class MessagePayload(Payload, frozen=True):
    """`revoke`, `reject_call`."""

    message_id: str


class MarkReadPayload(Payload, frozen=True):
    """`mark_read`: everything, or everything up to a message."""

    conversation_id: str
    until_message_id: str | None = None


class TypingPayload(Payload, frozen=True):
    """`typing`."""

    conversation_id: str
    state: Literal["composing", "recording", "paused"]


class CheckNumbersPayload(Payload, frozen=True):
    """`check_numbers`, as they were given."""

    numbers: list[str]


class PersonPayload(Payload, frozen=True):
    """`block`, `unblock`: the database found out who."""

    lead_id: str | None = None
    conversation_id: str | None = None


class GroupCreatePayload(Payload, frozen=True):
    """`group_create`; the database made JIDs of the participants."""

    subject: str
    participants: list[Jid]


class GroupUpdatePayload(Payload, frozen=True):
    """`group_update`."""

    conversation_id: str
    subject: str | None = None
    description: str | None = None
    announce: bool | None = None
    locked: bool | None = None
    picture_path: str | None = None


class GroupParticipantsPayload(Payload, frozen=True):
    """`group_participants`; the database made JIDs of the participants."""

    conversation_id: str
    action: Literal["add", "remove", "promote", "demote"]
    participants: list[Jid]


class GroupInvitePayload(Payload, frozen=True):
    """`group_invite`; `revoke` makes a new link, and the old one worthless."""

    conversation_id: str
    revoke: bool = False


class ConversationPayload(Payload, frozen=True):
    """`group_leave`."""

    conversation_id: str


class SetProfilePayload(Payload, frozen=True):
    """`set_profile`."""

    name: str | None = None
    status: str | None = None
    picture_path: str | None = None


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
