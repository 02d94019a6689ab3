"""A part of a history in the words of `bridge.events`; pure.

Like `translate`, it reads fields by name and imports no protobuf class. Nothing is expected of
what a phone sends: what has no id, no address or no content is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from bridge.engine.history import Record
from bridge.engine.translate import LUGGAGE, json_of, person, seconds
from bridge.events import HistoryPart, MessageReceived, PastChat, PastMessage, Person
from bridge.ids import GROUP_SERVER, Jid, WhatsAppMessageId, server_of

_FAILED = 0
_STATUS = {3: "delivered", 4: "read", 5: "played"}
_REVOKED = 1  # WebMessageInfo.StubType
_MORE_ON_PHONE, _NO_MORE_ON_PHONE = 0, 1  # Conversation.EndOfHistoryTransferType
_LAST_DAY = 253_370_764_800.0  # 9999-01-01


def part_of(record: Record, data: bytes, parse: Callable[[bytes], Any]) -> HistoryPart:
    """Make a part out of what the spool holds.

    Args:
        record: what it says of itself.
        data: its `HistorySync`, decompressed.
        parse: `HistorySync.FromString`.
    """
    proto = parse(data)
    return HistoryPart(
        own=record.own,
        progress=record.progress,
        share=record.share,
        last=record.last,
        lost=record.lost,
        people=_people(proto),
        chats=[c for c in (_chat(each, record.own) for each in proto.conversations) if c],
    )


def _people(proto: Any) -> list[Person]:
    named = [person(_jid(each.ID), push_name=each.pushname) for each in proto.pushnames]
    paired = [
        person(_jid(each.pnJID), _jid(each.lidJID)) for each in proto.phoneNumberToLidMappings
    ]
    return [each for each in [*paired, *named] if each is not None]


def _chat(proto: Any, own: Person) -> PastChat | None:
    chat = _jid(proto.ID)
    if chat is None:
        return None
    peer = None
    if server_of(chat) != GROUP_SERVER:
        peer = person(chat, _jid(proto.pnJID), _jid(proto.lidJID))
    more = None
    if proto.HasField("endOfHistoryTransferType"):
        kind = proto.endOfHistoryTransferType
        more = {_MORE_ON_PHONE: True, _NO_MORE_ON_PHONE: False}.get(kind)
    unread = min(proto.unreadCount, 1_000_000)
    return PastChat(
        chat=chat,
        peer=peer,
        name=proto.name or proto.displayName or None,
        unread=max(unread, 1) if proto.markedAsUnread else unread,
        archived=proto.archived,
        pinned=bool(proto.pinned),
        muted_until=_muted_until(proto.muteEndTime),
        more_on_phone=more,
        messages=[
            found
            for each in proto.messages
            if (found := _message(each.message, chat, peer, own)) is not None
        ],
    )


def _message(info: Any, chat: Jid, peer: Person | None, own: Person) -> PastMessage | None:
    content = info.message
    said = json_of(content)
    revoked = info.messageStubType == _REVOKED
    if not info.key.ID or not (set(said) - LUGGAGE or revoked):
        return None
    sender = _by(info.key, info.participant, peer, own, info.pushName)
    failed = info.HasField("status") and info.status == _FAILED
    return PastMessage(
        id=WhatsAppMessageId(info.key.ID),
        sender=sender,
        from_me=info.key.fromMe,
        sent_at=seconds(info.messageTimestamp),
        status="failed" if failed else _STATUS.get(info.status, "sent"),
        message=said,
        revoked=revoked,
        changes=[*_reactions(info, chat, peer, own), *_votes(info, chat, peer, own)],
    )


def _reactions(info: Any, chat: Jid, peer: Person | None, own: Person) -> Iterator[MessageReceived]:
    for each in info.reactions:
        said = {"text": each.text, "key": _target(info, each.key, chat)}
        at = each.senderTimestampMS
        if each.text:
            yield from _change(each.key, {"reactionMessage": said}, at, info, chat, peer, own)


def _votes(info: Any, chat: Jid, peer: Person | None, own: Person) -> Iterator[MessageReceived]:
    for each in info.pollUpdates:
        key = each.pollUpdateMessageKey
        said = {"pollCreationMessageKey": _target(info, key, chat)}
        at = each.senderTimestampMS
        for told in _change(key, {"pollUpdateMessage": said}, at, info, chat, peer, own):
            options = [option.hex() for option in each.vote.selectedOptions]
            yield msgspec.structs.replace(told, poll_vote=options)


def _change(
    key: Any,
    message: dict[str, Any],
    at_ms: int,
    info: Any,
    chat: Jid,
    peer: Person | None,
    own: Person,
) -> Iterator[MessageReceived]:
    """The message that brought a change; none if nobody knows whose it was."""
    by = _by(key, key.participant, peer, own, "")
    if by is not None:
        yield MessageReceived(
            id=WhatsAppMessageId(key.ID or f"{info.key.ID}-changed"),
            chat=chat,
            peer=peer,
            sender=by,
            from_me=key.fromMe,
            sent_at=seconds(at_ms or info.messageTimestamp),
            message=message,
        )


def _target(info: Any, by: Any, chat: Jid) -> dict[str, Any]:
    """The key of a message as somebody else writes it: `fromMe` is from who writes the key."""
    mine, theirs = info.key.fromMe, by.fromMe
    from_me = mine and theirs if server_of(chat) == GROUP_SERVER else mine == theirs
    return {"ID": info.key.ID, "fromMe": from_me}


def _by(key: Any, participant: str, peer: Person | None, own: Person, name: str) -> Person | None:
    """Who wrote: oneself, the one of a group who is named, or the other one."""
    if key.fromMe:
        return own
    named = person(_jid(participant or key.participant), push_name=name)
    if named is None and peer is not None:
        return person(peer.phone_jid, peer.lid, push_name=name)
    return named


def _jid(text: str) -> Jid | None:
    """An address without its device; None if it is none."""
    user, at, server = text.partition("@")
    user = user.partition(":")[0].partition(".")[0] if server in {"s.whatsapp.net", "lid"} else user
    server = {"c.us": "s.whatsapp.net"}.get(server, server)
    return Jid(f"{user}@{server}") if user and at and server else None


def _muted_until(value: int) -> float | None:
    if not value:
        return None
    return min(seconds(value), _LAST_DAY)
