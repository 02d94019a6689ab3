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


class ProfilePart(PersonPart, frozen=True):
    """Somebody who was asked about; the name of the business is one that WhatsApp verified."""

    business_name: str | None


class ParticipantPart(Part, frozen=True):
    """Somebody in a group."""

    phone_jid: Jid | None
    lid: Jid | None
    role: Literal["member", "admin"]


class AttachmentPart(Part, frozen=True):
    """The file of a message, before it is fetched.

    Attributes:
        thumbnail: base64 of a small JPEG (PNG for stickers).
        waveform: loudness of a voice note, up to 64 values from 0 to 100.
        media: what is needed to fetch the file, as protobuf JSON; never recorded as it is.
        sealed: the same under the account's key.
    """

    kind: str
    mime_type: str | None = None
    file_name: str | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    duration_s: int | None = None
    waveform: list[int] | None = None
    thumbnail: str | None = None
    media: dict[str, Any] | None = None
    sealed: dict[str, Any] | None = None


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
    attachment: AttachmentPart | None = None


class Change(Part, frozen=True):
    """What the rows have in common that say something about another message.

    Attributes:
        whatsapp_message_id: of the message that brought the change.
        target_id: of the message that it is about.
        target_from_me: whether that one is the account's own; None = not told.
        sender: who made the change; the account itself if `from_me`.
    """

    whatsapp_message_id: WhatsAppMessageId
    chat: Chat
    peer: PersonPart | None
    sender: PersonPart
    from_me: bool
    target_id: WhatsAppMessageId
    target_from_me: bool | None
    at: str


class EditRow(Change, frozen=True, tag_field="kind", tag="edit"):
    """A new text (or caption), by the author."""

    conteudo: str
    mentions: list[str]


class RevokeRow(Change, frozen=True, tag_field="kind", tag="revoke"):
    """Deleted for everyone, by the author or by an admin of the group."""

    by_admin: bool


class ReactionRow(Change, frozen=True, tag_field="kind", tag="reaction"):
    """An emoji on a message; None takes it back."""

    emoji: str | None


class PollVoteRow(Change, frozen=True, tag_field="kind", tag="poll_vote"):
    """What somebody chooses in a poll now; empty takes the vote back.

    Attributes:
        options: SHA-256 of the names of the options, hexadecimal.
    """

    options: list[str]


class PinRow(Change, frozen=True, tag_field="kind", tag="pin"):
    """A message is kept on top of its chat, for everybody; or no longer."""

    on: bool


class CallRow(Part, frozen=True, tag_field="kind", tag="call"):
    """A call that rings or ended: both make, or change, the one row of the call.

    Attributes:
        peer: who called; None in a call of a group.
        state: `ringing`, `accepted`, `ended`, `missed`, `rejected`.
    """

    call_id: str
    chat: Chat
    peer: PersonPart | None
    sender: PersonPart
    from_me: bool
    state: str
    payload: dict[str, Any]
    at: str


class SystemRow(Part, frozen=True, tag_field="kind", tag="system"):
    """Something happened to a group.

    Attributes:
        whatsapp_message_id: made of what happened, so that the same is recorded once.
        sender: who did it, if WhatsApp told.
        people: who it happened to.
    """

    whatsapp_message_id: WhatsAppMessageId
    chat: Chat
    sender: PersonPart | None
    from_me: bool
    action: str
    conteudo: str | None
    people: list[PersonPart]
    payload: dict[str, Any]
    at: str


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


class GroupRow(Part, frozen=True, omit_defaults=True, tag_field="kind", tag="group"):
    """What a group is, or what changed about it; what is None did not change.

    Attributes:
        description: empty = there is none.
        participants: all of them.
    """

    jid: Jid
    subject: str | None = None
    description: str | None = None
    participants: list[ParticipantPart] | None = None
    joined: list[PersonPart] = []
    left: list[PersonPart] = []
    promoted: list[PersonPart] = []
    demoted: list[PersonPart] = []


class PictureRow(Part, frozen=True, tag_field="kind", tag="picture"):
    """A person, or a group, has another picture, or none any more: it has to be asked for."""

    person: PersonPart | None = None
    group: Jid | None = None


class DiagnosticRow(Part, frozen=True, tag_field="kind", tag="diagnostic"):
    """A line of `whatsapp_baileys_events`."""

    level: Literal["debug", "info", "warning", "error"]
    code: str
    message: str
    context: dict[str, Any]


Row = (
    MessageRow
    | EditRow
    | RevokeRow
    | ReactionRow
    | PollVoteRow
    | PinRow
    | CallRow
    | SystemRow
    | ReceiptRow
    | SentRow
    | CommandFinishedRow
    | PersonRow
    | GroupRow
    | PictureRow
    | DiagnosticRow
)


def to_json(row: Row) -> dict[str, Any]:
    """The element of the batch."""
    built: dict[str, Any] = msgspec.to_builtins(row)
    if built.get("attachment", ...) is None:
        del built["attachment"]
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
