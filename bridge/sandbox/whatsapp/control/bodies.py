"""Bodies of requests to the control API, and the errors it answers with."""

from __future__ import annotations

import base64
import binascii
from typing import TypeVar

import msgspec

from bridge.sandbox.whatsapp.phone.history import PastConversation
from bridge.sandbox.whatsapp.server.faults import FaultKind

MAX_BODY_BYTES = 1 << 27


class ControlError(Exception):
    """An answer that is not 200: status, stable code, one sentence."""

    def __init__(self, status: int, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.code, self.sentence = status, code, sentence


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base: unknown keys are refused, so that a misspelt option is noticed."""


class NewPhone(Body, frozen=True):
    """`addressing` says how its direct messages name people: `lid` (as today) or `pn`."""

    number: str
    name: str = ""
    addressing: str = "lid"


class PhoneChange(Body, frozen=True):
    """`online: false` takes the phone off the network: what comes waits at the server.

    An empty `picture_base64` takes the picture away; `picture_hidden_from` are numbers that may not
    see it. `blocked` are the numbers that the person blocks, and no others.
    """

    online: bool | None = None
    name: str | None = None
    about: str | None = None
    business_name: str | None = None
    picture_base64: str | None = None
    picture_hidden_from: list[str] | None = None
    blocked: list[str] | None = None


class Scan(Body, frozen=True):
    """Text of a QR code, or an image of it as a data URL."""

    qr: str


class LinkCode(Body, frozen=True):
    """The eight letters."""

    code: str


class NewCard(Body, frozen=True):
    """Somebody on a contact card."""

    name: str
    number: str


class NewMessage(Body, frozen=True):
    """What a phone sends: `to` is a number, an address, or (also as `group`) a group.

    To `status@broadcast`, or a channel (`…@newsletter`), it is a post for the numbers in `viewers`.
    `withheld` keeps it from linked devices, which are told only that there is one. Which fields a
    `type` needs, `control.sending` says. `message_base64` is a serialised `waE2E.Message`, for
    kinds that have no name here (type `raw`).
    """

    to: str | None = None
    type: str = "text"
    text: str | None = None
    media_base64: str | None = None
    mime_type: str | None = None
    file_name: str | None = None
    caption: str | None = None
    voice_note: bool = False
    group: str | None = None
    quoted_id: str | None = None
    target_id: str | None = None
    garbled: bool = False
    withheld: bool = False
    lost: bool = False  # the media host has the file no more
    mentions: list[str] = []
    forwarded: bool = False
    view_once: bool = False
    disappears_after_s: int | None = None
    latitude: float | None = None
    longitude: float | None = None
    name: str | None = None
    address: str | None = None
    live: bool = False
    contacts: list[NewCard] = []
    options: list[str] = []
    selectable: int = 1
    message_base64: str | None = None
    viewers: list[str] = []


class NewCall(Body, frozen=True):
    """A call that begins to ring at `to` (a number), or in a group."""

    to: str
    video: bool = False


class CallEnd(Body, frozen=True):
    """Why the call is over, in WhatsApp's word."""

    to: str
    reason: str = ""


class Read(Body, frozen=True):
    """Ids of messages that the phone got."""

    ids: list[str]
    played: bool = False


class ShowTyping(Body, frozen=True):
    """`state` is composing, recording or paused."""

    to: str
    state: str = "composing"


class NewHistory(Body, frozen=True):
    """Conversations for the next linked device; `now` sends them to the linked ones as well.

    They are sent in so many `chunks`, with a progress that rises to 100. `withheld` ones are
    announced and cannot be fetched until this is called again without it.
    """

    conversations: list[PastConversation]
    now: bool = False
    chunks: int = 1
    withheld: bool = False


class NewContact(Body, frozen=True):
    """Somebody for the address book."""

    number: str
    name: str


class ChatChange(Body, frozen=True):
    """What to change about the phone's chat with a number, an address or a group.

    `muted_until` is Unix time: 0 = not muted, -1 = for ever.
    """

    to: str
    archived: bool | None = None
    pinned: bool | None = None
    muted_until: int | None = None


class NewGroup(Body, frozen=True):
    """The owner is the first participant unless named."""

    subject: str
    participants: list[str]
    owner: str | None = None


class GroupChange(Body, frozen=True):
    """What to change about a group; `actor` does it, by default the owner."""

    subject: str | None = None
    add: list[str] = []
    remove: list[str] = []
    promote: list[str] = []
    demote: list[str] = []
    description: str | None = None
    announce: bool | None = None
    locked: bool | None = None
    disappearing_s: int | None = None
    picture_base64: str | None = None
    actor: str | None = None


class Unlink(Body, frozen=True):
    """Which linked device; without it, all of them."""

    device: int | None = None


class NewFault(Body, frozen=True):
    """Without `number` everybody meets it; without `for_s` it lasts until it is cleared."""

    kind: FaultKind
    number: str | None = None
    for_s: float | None = None
    delay_s: float | None = None


_B = TypeVar("_B", bound=Body)


def parse(raw: bytes, type_: type[_B]) -> _B:
    """Read a body.

    :raises ControlError: 400 if it is not JSON of that shape.
    """
    try:
        return msgspec.json.decode(raw or b"{}", type=type_)
    except msgspec.DecodeError as error:
        raise ControlError(400, "bad_request", f"{error}.") from error


def bytes_of(text: str) -> bytes:
    """Bytes that a body holds.

    :raises ControlError: 400 if it is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ControlError(400, "bad_request", "What should be base64 is not.") from error


def parse_number(text: str) -> str:
    """A phone number as digits; it may be written with a plus, blanks and dashes.

    :raises ControlError: 400 if it is not a number in international form.
    """
    digits = text.removeprefix("+").replace(" ", "").replace("-", "")
    if not (digits.isascii() and digits.isdigit() and 5 <= len(digits) <= 15):
        raise ControlError(400, "bad_number", f"{text!r} is not a phone number with country code.")
    return digits
