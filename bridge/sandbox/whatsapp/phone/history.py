"""History sync: earlier conversations that a phone hands to a newly linked companion."""

from __future__ import annotations

import hashlib
import secrets
import time
import zlib
from collections.abc import Iterable

import msgspec

from bridge.sandbox.whatsapp.codec import protobuf
from bridge.sandbox.whatsapp.codec.nodes import JID
from bridge.sandbox.whatsapp.server.media_host import MediaHost

INITIAL, RECENT, PUSH_NAMES = 0, 3, 4
_SERVER_ACK, _READ = 2, 4
_REVOKED = 1


class PastReaction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An emoji on a message of the past; `sender` is a number or an address."""

    emoji: str
    from_me: bool = False
    sender: str | None = None


class PastVote(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody chose in a poll of the past; `sender` is a number or an address."""

    options: list[str]
    from_me: bool = False
    sender: str | None = None


class PastMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message of the past.

    Attributes:
        at: Unix time.
        sender: number (or address) of who wrote it; needed in groups unless `from_me`.
        raw: a serialised `waE2E.Message` in the place of a text.
        like: id of a message that the phone knows, whose content this one has.
        status: 0 to 5 as in `WebMessageInfo.Status`; by default `READ` of own ones.
        revoked: deleted for everyone; nothing of it is left.
    """

    text: str = ""
    at: float | None = None
    id: str | None = None
    from_me: bool = False
    sender: str | None = None
    raw: bytes | None = None
    like: str | None = None
    status: int | None = None
    revoked: bool = False
    reactions: list[PastReaction] = []
    votes: list[PastVote] = []


class PastConversation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A chat of the past.

    Attributes:
        to: a number, an address (also of somebody whom this simulator does not know) or a group.
        pinned: Unix time of it.
        muted_until: Unix time.
        more: the phone has older messages than it sends; None = it does not say.
    """

    to: str
    messages: list[PastMessage]
    name: str | None = None
    unread: int = 0
    archived: bool = False
    pinned: int | None = None
    muted_until: int | None = None
    more: bool | None = None


def conversation(
    past: PastConversation,
    chat: JID,
    *,
    phone: JID | None,
    lid: JID | None,
    senders: dict[str, JID],
) -> bytes:
    """Serialise one conversation; `senders` maps the numbers of a group to addresses."""
    newest_first = sorted(past.messages, key=lambda each: each.at or time.time(), reverse=True)
    messages = [_message(each, chat, senders) for each in newest_first]
    latest = int(newest_first[0].at or time.time()) if newest_first else int(time.time())
    return protobuf.encode(
        (1, str(chat)),
        (2, messages),
        (5, latest),
        (6, past.unread or None),
        (8, True),
        (11, None if past.more is None else 0 if past.more else 1),
        (12, latest),
        (13, past.name),
        (16, past.archived or None),
        (24, past.pinned),
        (25, past.muted_until),
        (39, str(phone) if phone else None),
        (42, str(lid) if lid else None),
    )


def history_sync(
    kind: int,
    conversations: list[bytes],
    *,
    push_names: dict[str, str],
    lids: Iterable[tuple[JID, JID]] = (),
    chunk: int = 1,
    progress: int = 100,
) -> bytes:
    """Serialise a HistorySync of one chunk."""
    return protobuf.encode(
        (1, kind),
        (2, conversations),
        (5, chunk),
        (6, progress),
        (7, [protobuf.encode((1, jid), (2, name)) for jid, name in push_names.items()]),
        (15, [protobuf.encode((1, str(pn)), (2, str(lid))) for pn, lid in lids]),
    )


def notification(
    kind: int,
    history: bytes,
    media: MediaHost,
    *,
    chunk: int = 1,
    progress: int = 100,
    withheld: bool = False,
) -> bytes:
    """Upload a history; gives the protocol message that announces it."""
    uploaded = media.add(zlib.compress(history), "history")
    if withheld:
        media.withhold(uploaded.direct_path)
    announced = protobuf.encode(
        (1, uploaded.file_sha256),
        (2, uploaded.size_bytes),
        (3, uploaded.media_key),
        (4, uploaded.file_enc_sha256),
        (5, uploaded.direct_path),
        (6, kind),
        (7, chunk),
        (9, progress),
    )
    return protobuf.encode((2, 5), (6, announced))


def _message(past: PastMessage, chat: JID, senders: dict[str, JID]) -> bytes:
    id_ = past.id or "3A" + secrets.token_hex(15).upper()
    sender = senders.get(past.sender or "")
    participant = str(sender) if sender and chat.is_group and not past.from_me else None
    at = int(past.at or time.time())
    status = (_READ if past.from_me else _SERVER_ACK) if past.status is None else past.status
    content = past.raw if past.raw is not None else protobuf.encode((1, past.text))
    info = protobuf.encode(
        (1, _key(chat, id_, participant, from_me=past.from_me)),
        (2, None if past.revoked else content),
        (3, at),
        (4, status),
        (5, participant),
        (24, _REVOKED if past.revoked else None),
        (41, [_reaction(each, chat, id_, senders, at) for each in past.reactions]),
        (45, [_vote(each, chat, id_, senders, at) for each in past.votes]),
    )
    return protobuf.encode((1, info), (2, at))


def _reaction(
    past: PastReaction, chat: JID, target: str, senders: dict[str, JID], at: int
) -> bytes:
    by = senders.get(past.sender or "")
    participant = str(by) if by and chat.is_group and not past.from_me else None
    key = _key(chat, f"{target}R", participant, from_me=past.from_me)
    return protobuf.encode((1, key), (2, past.emoji), (4, at * 1000))


def _vote(past: PastVote, chat: JID, target: str, senders: dict[str, JID], at: int) -> bytes:
    by = senders.get(past.sender or "")
    participant = str(by) if by and chat.is_group and not past.from_me else None
    key = _key(chat, f"{target}V", participant, from_me=past.from_me)
    chosen = [hashlib.sha256(name.encode()).digest() for name in past.options]
    return protobuf.encode((1, key), (2, protobuf.encode((1, chosen))), (3, at * 1000))


def _key(chat: JID, id_: str, participant: str | None, *, from_me: bool) -> bytes:
    return protobuf.encode((1, str(chat)), (2, from_me), (3, id_), (4, participant))
