"""History sync: earlier conversations that a phone hands to a newly linked companion."""

from __future__ import annotations

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


class PastMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A text of the past.

    Attributes:
        at: Unix time.
        sender: number of who wrote it; needed in groups unless `from_me`.
    """

    text: str
    at: float | None = None
    id: str | None = None
    from_me: bool = False
    sender: str | None = None


class PastConversation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A chat of the past: `to` is a number, an address or a group."""

    to: str
    messages: list[PastMessage]
    name: str | None = None
    unread: int = 0


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
    messages = [_message(each, chat, senders.get(each.sender or "")) for each in newest_first]
    latest = int(newest_first[0].at or time.time()) if newest_first else int(time.time())
    return protobuf.encode(
        (1, str(chat)),
        (2, messages),
        (5, latest),
        (6, past.unread or None),
        (8, True),
        (11, 1),
        (12, latest),
        (13, past.name),
        (39, str(phone) if phone else None),
        (42, str(lid) if lid else None),
    )


def history_sync(
    kind: int,
    conversations: list[bytes],
    *,
    push_names: dict[str, str],
    lids: Iterable[tuple[JID, JID]] = (),
) -> bytes:
    """Serialise a HistorySync of one chunk."""
    return protobuf.encode(
        (1, kind),
        (2, conversations),
        (5, 1),
        (6, 100),
        (7, [protobuf.encode((1, jid), (2, name)) for jid, name in push_names.items()]),
        (15, [protobuf.encode((1, str(pn)), (2, str(lid))) for pn, lid in lids]),
    )


def notification(kind: int, history: bytes, media: MediaHost) -> bytes:
    """Upload a history; gives the protocol message that announces it."""
    uploaded = media.add(zlib.compress(history), "history")
    announced = protobuf.encode(
        (1, uploaded.file_sha256),
        (2, uploaded.size_bytes),
        (3, uploaded.media_key),
        (4, uploaded.file_enc_sha256),
        (5, uploaded.direct_path),
        (6, kind),
        (7, 1),
        (9, 100),
    )
    return protobuf.encode((2, 5), (6, announced))


def _message(past: PastMessage, chat: JID, sender: JID | None) -> bytes:
    id_ = past.id or "3A" + secrets.token_hex(15).upper()
    participant = str(sender) if sender and chat.is_group and not past.from_me else None
    at = int(past.at or time.time())
    key = protobuf.encode((1, str(chat)), (2, past.from_me), (3, id_), (4, participant))
    info = protobuf.encode(
        (1, key),
        (2, protobuf.encode((1, past.text))),
        (3, at),
        (4, _READ if past.from_me else _SERVER_ACK),
        (5, participant),
    )
    return protobuf.encode((1, info), (2, at))
