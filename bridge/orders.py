"""What the parent asks of an engine, in the words of WhatsApp: the counterpart of `bridge.events`.

Two families, told apart by how their outcome comes back:

* `Outgoing` is a message that somebody sees. It belongs to a command, is journaled before it
  leaves, and its outcome is a spooled event (`SendSucceeded`, `SendFailed`).
* `Request` is everything else. It is answered once, with a value or an error, and may be repeated
  (but `CreateGroup`, which would make another group).

JIDs have no device part. Files are paths on this host, which parent and engine share.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from bridge.ids import Jid, WhatsAppMessageId


class Order(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all orders: immutable, named fields only."""


MediaKind = Literal["image", "video", "audio", "document", "sticker"]


class Quote(Order, frozen=True):
    """The message that an outgoing one answers.

    Attributes:
        sender: who wrote it (oneself included).
        text: what apps show of it; empty for what is not text.
    """

    id: WhatsAppMessageId
    sender: Jid
    text: str = ""


# --------------------------------------------------------------------------- outgoing messages


class Shown(Order, frozen=True, kw_only=True):
    """What goes for every message that people see.

    Attributes:
        forwarded: apps show that it was written elsewhere.
        disappears_after_s: the timer of its chat; apps delete it then.
    """

    mentions: list[Jid] = []
    quote: Quote | None = None
    forwarded: bool = False
    disappears_after_s: int | None = None


class LinkPreview(Order, frozen=True):
    """What apps show of a page under a text that names it.

    Attributes:
        url: as it stands in the text.
        thumbnail: small JPEG.
    """

    url: str
    title: str
    description: str | None = None
    thumbnail: bytes | None = None


class Text(Shown, frozen=True, tag=True):
    """A text, with who is mentioned in it and what it answers."""

    text: str
    preview: LinkPreview | None = None


class Uploaded(Order, frozen=True):
    """A file that WhatsApp has, encrypted; whoever gets a message with this can open it."""

    url: str
    direct_path: str
    media_key: bytes
    sha256: bytes
    encrypted_sha256: bytes
    size_bytes: int


class Media(Shown, frozen=True, tag=True):
    """A file that was uploaded.

    Attributes:
        animated: of a sticker: it moves.
        seconds: duration of audio and video.
        waveform: 64 values from 0 to 100 of a voice note.
        thumbnail: small JPEG.
    """

    kind: MediaKind
    file: Uploaded
    mime_type: str
    caption: str | None = None
    file_name: str | None = None
    voice_note: bool = False
    view_once: bool = False
    animated: bool = False
    seconds: int | None = None
    width: int | None = None
    height: int | None = None
    waveform: bytes | None = None
    thumbnail: bytes | None = None


class Location(Shown, frozen=True, tag=True):
    """A place; degrees, WGS 84.

    Attributes:
        live: shown as a place that moves, with a `caption`; without, with name and address.
    """

    latitude: float
    longitude: float
    name: str | None = None
    address: str | None = None
    live: bool = False
    caption: str | None = None


class Card(Order, frozen=True):
    """Somebody on a contact card; the numbers are E.164 digits."""

    name: str
    numbers: list[str]


class Contact(Shown, frozen=True, tag=True):
    """One contact card, or several in one message."""

    cards: list[Card]


class Poll(Shown, frozen=True, tag=True):
    """A question with options, of which up to `selectable` may be chosen; 0 = any number."""

    question: str
    options: list[str]
    selectable: int = 1


class Reaction(Order, frozen=True, tag=True):
    """An emoji on a message; an empty one takes it back."""

    target: WhatsAppMessageId
    target_sender: Jid
    target_from_me: bool
    emoji: str


class Edit(Order, frozen=True, tag=True):
    """A new text for an own message.

    Attributes:
        media: of a message with a file: the file again, with the text as its caption.
    """

    target: WhatsAppMessageId
    text: str
    mentions: list[Jid] = []
    media: Media | None = None


class Revoke(Order, frozen=True, tag=True):
    """Delete a message for everyone: an own one, or somebody's as an admin of the group."""

    target: WhatsAppMessageId
    target_sender: Jid
    target_from_me: bool


Said = Text | Media | Location | Contact | Poll
Outgoing = Said | Reaction | Edit | Revoke


# --------------------------------------------------------------------------- requests


class MarkRead(Order, frozen=True, tag=True):
    """Read receipts for messages of one sender in one chat."""

    chat: Jid
    sender: Jid
    ids: list[WhatsAppMessageId]
    at: float


class ShowTyping(Order, frozen=True, tag=True):
    """What the other person sees under the name."""

    chat: Jid
    state: Literal["composing", "recording", "paused"]


class ShowOnline(Order, frozen=True, tag=True):
    """Look online until the connection ends: only then WhatsApp tells who types."""


class CheckNumbers(Order, frozen=True, tag=True):
    """Which numbers are on WhatsApp. E.164 digits; answers `[{number, jid, lid}]`."""

    numbers: list[str]


class AskGroup(Order, frozen=True, tag=True):
    """What a group is; null if WhatsApp does not tell (no such group, or not in it).

    Answers `{subject, description, announce, locked, participants}`, the last a list of
    `{jid, phone_jid, lid, admin}`.
    """

    chat: Jid


class CreateGroup(Order, frozen=True, tag=True):
    """Answers what `AskGroup` answers, and `jid`."""

    subject: str
    participants: list[Jid]


class ChangeGroup(Order, frozen=True, tag=True):
    """What is not None is changed."""

    chat: Jid
    subject: str | None = None
    description: str | None = None
    picture_path: str | None = None
    announce: bool | None = None
    locked: bool | None = None


class ChangeParticipants(Order, frozen=True, tag=True):
    """Answers `[{jid, phone_jid, lid, ok, code, invite_code}]`."""

    chat: Jid
    action: Literal["add", "remove", "promote", "demote"]
    participants: list[Jid]


class AskInvite(Order, frozen=True, tag=True):
    """Link to join a group; answers `{link}`."""

    chat: Jid
    revoke: bool = False


class LeaveGroup(Order, frozen=True, tag=True):
    """Leave."""

    chat: Jid


class SetProfile(Order, frozen=True, tag=True):
    """Own name, status text, picture: what is not None is changed."""

    name: str | None = None
    status: str | None = None
    picture_path: str | None = None


class Block(Order, frozen=True, tag=True):
    """Block or unblock a person."""

    person: Jid
    blocked: bool


class AskBlocklist(Order, frozen=True, tag=True):
    """Whom the account blocks; answers `[{phone_jid, lid}]`, either null if it is not known."""


class AskChats(Order, frozen=True, tag=True):
    """What other own devices say of chats; asks this device's copy of that, not WhatsApp.

    Answers `[{archived, pinned, muted_until}]` (Unix seconds, null = not muted), one a chat; null
    for a chat of which nothing was ever said.

    Attributes:
        chats: the addresses of each; the first one that is known counts.
    """

    chats: list[list[Jid]]


class RejectCall(Order, frozen=True, tag=True):
    """Refuse a call that rings now."""

    caller: Jid
    call_id: str


class FetchPicture(Order, frozen=True, tag=True):
    """The picture of a person or group, as a file.

    Answers `{state}`: `fetched` with `id`, `sha256` and `size_bytes`; `unchanged` if it is the one
    that is known; `none` if there is none; `hidden` if this account may not see it.
    """

    of: Jid
    path: str
    max_bytes: int
    known_id: str | None = None


class AskPerson(Order, frozen=True, tag=True):
    """What a person tells; answers `{push_name, business_name, about}`, each null if unknown."""

    person: Jid


class UploadMedia(Order, frozen=True, tag=True):
    """Encrypt a file and leave it at WhatsApp; answers an `Uploaded` in JSON's types.

    Apart from sending, so that a command whose upload was cut off surely sent nothing.
    """

    kind: MediaKind
    path: str


class DownloadMedia(Order, frozen=True, tag=True):
    """Fetch and decrypt the file of a received message; answers `{size_bytes, sha256}`.

    Attributes:
        message: the part of the message's protobuf JSON form that names the file.
        path: where to write it, on this host.
        max_bytes: a larger file is given up.
    """

    kind: MediaKind
    message: bytes
    path: str
    max_bytes: int


class Logout(Order, frozen=True, tag=True):
    """Unlink this device; the session ends."""


Request = (
    MarkRead
    | ShowTyping
    | ShowOnline
    | CheckNumbers
    | AskGroup
    | CreateGroup
    | ChangeGroup
    | ChangeParticipants
    | AskInvite
    | LeaveGroup
    | SetProfile
    | Block
    | AskBlocklist
    | AskChats
    | RejectCall
    | FetchPicture
    | AskPerson
    | UploadMedia
    | DownloadMedia
    | Logout
)

Transfer = UploadMedia | DownloadMedia
