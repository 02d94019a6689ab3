"""What `bridge_record_events` takes: one struct a kind, told apart by the field `kind`.

Times are ISO 8601 in UTC. Strings hold nothing that PostgreSQL or JSON cannot (see `clean`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from bridge.ids import CommandId, Jid, WhatsAppMessageId

ChatKind = Literal["direct", "group", "newsletter", "broadcast", "status"]
Finish = Literal["done", "failed", "unknown", "pending"]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what stands inside a row."""


class Chat(Part, frozen=True):
    """Where something happened."""

    jid: Jid
    kind: ChatKind


class PersonPart(Part, frozen=True):
    """Who: at least one of the two addresses is there."""

    phone_jid: Jid | None
    lid: Jid | None
    push_name: str | None


class MessageRow(Part, frozen=True, tag_field="kind", tag="message"):
    """A message of somebody else, or an own one from another device.

    Attributes:
        placeholder: nobody could decrypt it yet; a message with the same id may follow.
    """

    whatsapp_message_id: WhatsAppMessageId
    chat: Chat
    peer: PersonPart | None
    sender: PersonPart
    from_me: bool
    tipo: str
    conteudo: str | None
    quoted_whatsapp_message_id: str | None
    mentions: list[str]
    payload: dict[str, Any]
    sent_at: str
    placeholder: bool


class ReceiptRow(Part, frozen=True, tag_field="kind", tag="receipt"):
    """Somebody got, read or played messages; `read_self`: oneself did."""

    chat: Chat
    peer: PersonPart | None
    reader: PersonPart
    ids: list[WhatsAppMessageId]
    type: str
    at: str


class SentRow(Part, frozen=True, tag_field="kind", tag="sent"):
    """WhatsApp's server took the message of a command."""

    command_id: CommandId
    whatsapp_message_id: WhatsAppMessageId
    sent_at: str


class CommandFinishedRow(Part, frozen=True, tag_field="kind", tag="command_finished"):
    """A command ended otherwise than by `sent`, or goes back (`pending`).

    Attributes:
        attempt: only if the command runs in this attempt; None = in any.
    """

    command_id: CommandId
    status: Finish
    result: dict[str, Any] | None = None
    error_code: str | None = None
    error_message: str | None = None
    retry_in_s: float | None = None
    attempt: int | None = None


class PersonRow(Part, frozen=True, tag_field="kind", tag="person"):
    """A name or the second address of somebody."""

    person: PersonPart


class GroupRow(Part, frozen=True, tag_field="kind", tag="group"):
    """Subject of a group."""

    jid: Jid
    subject: str | None


class DiagnosticRow(Part, frozen=True, tag_field="kind", tag="diagnostic"):
    """A line of `whatsapp_baileys_events`."""

    level: Literal["debug", "info", "warning", "error"]
    code: str
    message: str
    context: dict[str, Any]


Row = MessageRow | ReceiptRow | SentRow | CommandFinishedRow | PersonRow | GroupRow | DiagnosticRow


def to_json(row: Row) -> dict[str, Any]:
    """The element of the batch."""
    built: dict[str, Any] = msgspec.to_builtins(row)
    return built


def clean(text: str) -> str:
    """Text that PostgreSQL takes: no NUL, no half of a surrogate pair."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def iso(unix_s: float) -> str:
    """Unix seconds as ISO 8601, UTC. A time that no calendar has becomes the epoch."""
    try:
        return datetime.fromtimestamp(unix_s, UTC).isoformat()
    except (OverflowError, OSError, ValueError):
        return datetime.fromtimestamp(0, UTC).isoformat()
