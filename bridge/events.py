"""What an engine tells its parent: one frozen struct an event, in the words of WhatsApp.

This is the language between `engine` (which makes the events out of neonize's protobufs) and
`normalise` (which makes rows of them). Events that must not be lost are *spooled*: written to the
account's sealed journal before the engine goes on, delivered in order, and forgotten only when the
parent confirms that the database has them. The others (`Signal`) describe the present and are
worthless after a restart.

Times are Unix seconds (float, UTC). JIDs have no device part. ``message`` is the protobuf JSON form
of `waE2E.Message` (camelCase keys, bytes in base64), kept whole so that a kind that nobody
understands yet is not lost.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from bridge.ids import CommandId, Jid, SpoolPosition, WhatsAppMessageId


class Struct(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all events: immutable, named fields only."""


class Person(Struct, frozen=True):
    """Who it is about, as far as WhatsApp told: either address may be missing.

    Both are missing only where nobody is named: channels write without a person.
    """

    phone_jid: Jid | None = None
    lid: Jid | None = None
    push_name: str | None = None


# --------------------------------------------------------------------------- spooled events


class MessageReceived(Struct, frozen=True, tag=True):
    """A message that was decrypted: from somebody else, or own from another own device.

    Attributes:
        chat: group JID, or the other person's JID as the stanza named it (LID or phone).
        peer: direct chats only: the other person, in both addresses where known.
        sender: who wrote it (oneself when ``from_me``).
        edit: attribute of the stanza: `1` an edit, `7` a revoke, `8` a revoke by an admin, which
            WhatsApp's server checks.
        view_once: it was wrapped as such (the wrapper itself is gone).
        poll_vote: of a vote: what it holds, decrypted: SHA-256 of the chosen options, hexadecimal.
    """

    id: WhatsAppMessageId
    chat: Jid
    peer: Person | None
    sender: Person
    from_me: bool
    sent_at: float
    message: dict[str, Any]
    edit: str = ""
    view_once: bool = False
    poll_vote: list[str] | None = None


class MessageUndecryptable(Struct, frozen=True, tag=True):
    """A message whose key is missing. WhatsApp sends it again under the same id if it can.

    Attributes:
        unavailable: WhatsApp gives it to the phone only, as it does with view-once messages.
    """

    id: WhatsAppMessageId
    chat: Jid
    peer: Person | None
    sender: Person
    from_me: bool
    sent_at: float
    unavailable: bool = False


class ReceiptReceived(Struct, frozen=True, tag=True):
    """Somebody got, read or played messages; or oneself read them on another device.

    Attributes:
        kind: `delivered`, `read`, `played`, or `read_self` (own phone: clears the unread count).
        reader: who the receipt is from.
    """

    ids: list[WhatsAppMessageId]
    chat: Jid
    peer: Person | None
    reader: Person
    kind: str
    at: float


class SendStarted(Struct, frozen=True, tag=True):
    """The next thing the engine does is to hand this command's message to WhatsApp.

    Attributes:
        held: strict mode: it does not leave before `SendReleased`.
    """

    command_id: CommandId
    held: bool = False


class SendReleased(Struct, frozen=True, tag=True):
    """The message of this command is written to WhatsApp from now on."""

    command_id: CommandId
    id: WhatsAppMessageId
    at: float


class SendNamed(Struct, frozen=True, tag=True):
    """The message of this command leaves under this id, now: it is about to be written."""

    command_id: CommandId
    id: WhatsAppMessageId


class SendSucceeded(Struct, frozen=True, tag=True):
    """WhatsApp's server accepted the message of this command."""

    command_id: CommandId
    id: WhatsAppMessageId
    sent_at: float


class SendFailed(Struct, frozen=True, tag=True):
    """The message of this command was refused, or did not leave.

    Attributes:
        outcome_unknown: it may have been sent nevertheless (no answer came in time).
        retryable: it is certain that nothing was sent, and the same may succeed later.
    """

    command_id: CommandId
    code: str
    sentence: str
    outcome_unknown: bool = False
    retryable: bool = False


class PersonSeen(Struct, frozen=True, tag=True):
    """WhatsApp told a name or the second address of somebody."""

    person: Person


class GroupNews(Struct, frozen=True, tag=True):
    """What somebody changed about a group; a field that is None did not change.

    Attributes:
        by: who did it; None if WhatsApp did not say.
        by_me: the account itself did it.
        version: WhatsApp's mark of the state that this made, if it told.
        disappearing_s: new messages disappear after these seconds; 0 = they stay.
        picture: whether there is one now, which is another.
    """

    chat: Jid
    at: float
    by: Person | None = None
    by_me: bool = False
    version: str = ""
    reason: str = ""
    subject: str | None = None
    description: str | None = None
    joined: list[Person] = []
    left: list[Person] = []
    promoted: list[Person] = []
    demoted: list[Person] = []
    announce: bool | None = None
    locked: bool | None = None
    disappearing_s: int | None = None
    picture: bool | None = None
    deleted: bool = False
    created: bool = False


class PictureChanged(Struct, frozen=True, tag=True):
    """A person has another picture, or none any more: it has to be asked for.

    That of a group is news of the group.
    """

    person: Person


class CallTold(Struct, frozen=True, tag=True):
    """A call rings, was taken, or is over.

    Attributes:
        caller: who calls; the account itself if `from_me`.
        group: the group that is called, if it is one.
        state: `offered`, `accepted`, `rejected`, `ended`.
        reason: why it ended, in WhatsApp's word (`timeout`, `accepted_elsewhere`, …).
    """

    call_id: str
    caller: Person
    from_me: bool
    state: str
    at: float
    group: Jid | None = None
    video: bool | None = None
    reason: str = ""


class EventNotUnderstood(Struct, frozen=True, tag=True):
    """The engine reported something this version has no name for. Recorded as a diagnostic."""

    kind: str


class EngineAlarm(Struct, frozen=True, tag=True):
    """Something a person should know of, by its code; recorded as a diagnostic.

    Attributes:
        code: `strict_unavailable` or `strict_rescued`.
    """

    code: str


SpooledEvent = (
    MessageReceived
    | MessageUndecryptable
    | ReceiptReceived
    | SendStarted
    | SendNamed
    | SendReleased
    | SendSucceeded
    | SendFailed
    | PersonSeen
    | GroupNews
    | PictureChanged
    | CallTold
    | EventNotUnderstood
    | EngineAlarm
)


class Delivery(Struct, frozen=True):
    """A spooled event with its place in the spool."""

    position: SpoolPosition
    event: SpooledEvent


# --------------------------------------------------------------------------- history


class PastMessage(Struct, frozen=True):
    """A message of the past, as the phone keeps it.

    Attributes:
        status: own messages: `sent`, `delivered`, `read`, `played`, or `failed`.
        revoked: it was deleted for everyone; then there is no text.
        changes: reactions and votes, as the messages that brought them.
    """

    id: WhatsAppMessageId
    sender: Person | None
    from_me: bool
    sent_at: float
    status: str
    message: dict[str, Any]
    revoked: bool = False
    changes: list[MessageReceived] = []


class PastChat(Struct, frozen=True):
    """A chat, or a piece of a long one.

    Attributes:
        name: subject of a group; in a direct chat what the phone's address book says.
        pinned, archived, muted_until: as on the phone when it was linked; Unix seconds, infinite
            for ever.
        more_on_phone: the phone has older messages that it did not send; None if it did not say.
    """

    chat: Jid
    peer: Person | None
    name: str | None = None
    unread: int = 0
    archived: bool = False
    pinned: bool = False
    muted_until: float | None = None
    more_on_phone: bool | None = None
    messages: list[PastMessage] = []


class HistoryPart(Struct, frozen=True):
    """A part of a history that the phone sent.

    Attributes:
        own: whose account it is.
        progress: percent of all histories that the phone has sent with this one.
        share: how much of this one is behind this part, 0 to 1.
        last: nothing of this one follows.
        lost: it was announced, and WhatsApp does not have it any more.
        people: names, and addresses that belong together.
    """

    own: Person
    progress: int
    share: float
    last: bool
    lost: bool = False
    people: list[Person] = []
    chats: list[PastChat] = []


class HistoryDelivery(Struct, frozen=True):
    """A part with its place in the spool of histories, which is another than that of events."""

    position: SpoolPosition
    part: HistoryPart


# --------------------------------------------------------------------------- signals


class QrShown(Struct, frozen=True, tag=True):
    """A QR text to be scanned; replaces the one before.

    Attributes:
        valid_s: seconds until WhatsApp shows the next one or gives up.
    """

    text: str
    valid_s: float


class PairingCodeShown(Struct, frozen=True, tag=True):
    """The code to be typed on the phone."""

    code: str
    valid_s: float


class PairingFailed(Struct, frozen=True, tag=True):
    """Nobody scanned in time (`qr_expired`), or the phone's answer was refused (`pair_error`)."""

    code: str


class Connected(Struct, frozen=True, tag=True):
    """Logged in; messages flow."""

    phone_jid: Jid
    lid: Jid | None
    push_name: str | None = None


class Disconnected(Struct, frozen=True, tag=True):
    """The connection dropped; the engine tries again by itself."""


class PhoneSeen(Struct, frozen=True, tag=True):
    """The phone itself, not another companion, told something. Said once in a while."""


class BlocklistChanged(Struct, frozen=True, tag=True):
    """The account blocks somebody else now, or somebody no longer: the list has to be read."""


class ChatsChanged(Struct, frozen=True, tag=True):
    """A chat was archived, pinned or muted on another own device, or is no longer: ask which."""


class SessionEnded(Struct, frozen=True, tag=True):
    """The session is over and does not come back by itself.

    Attributes:
        code: `logged_out`, `replaced`, `banned`, `outdated`, `connect_failure`, `unreachable`,
            `lease_expired`, `stopped`.
        retry_after_s: for a temporary ban, how long it lasts.
    """

    code: str
    detail: str = ""
    retry_after_s: float | None = None


class TypingShown(Struct, frozen=True, tag=True):
    """Somebody types (`composing`), speaks (`recording`), or stopped (`paused`)."""

    chat: Jid
    person: Person
    state: Literal["composing", "recording", "paused"]


Signal = (
    QrShown
    | PairingCodeShown
    | PairingFailed
    | Connected
    | Disconnected
    | PhoneSeen
    | BlocklistChanged
    | ChatsChanged
    | SessionEnded
    | TypingShown
)
