"""What a message says about another one: edit, revoke, reaction, vote, pin.

Where WhatsApp puts them in a message of their own, they are no message to a person: nobody sees a
bubble. They become rows that change the row they are about, whichever of the two comes first.
"""

from __future__ import annotations

from typing import Any

from bridge.events import MessageReceived
from bridge.ids import WhatsAppMessageId
from bridge.normalise.content import content_of, unwrapped
from bridge.normalise.fields import Fields, label, sub, whole, word
from bridge.normalise.identity import chat_of, peer_of, sender_of
from bridge.normalise.rows import (
    Chat,
    EditRow,
    PinRow,
    PollVoteRow,
    ReactionRow,
    RevokeRow,
    clean,
    iso,
)

BY_ADMIN = "8"
_PINS = {"PIN_FOR_ALL": True, "UNPIN_FOR_ALL": False}
_MAX_EMOJI_CHARS = 64
_MAX_CHOICES = 100
_MAX_ID_CHARS = 128  # WhatsApp's have 16 to 40; an index takes no long ones
_LATEST_MS = 253_402_300_799_000


def is_change(message: dict[str, Any]) -> bool:
    """Whether the message is about another one."""
    inner, _ = unwrapped(message)
    protocol = sub(inner, "protocolMessage")
    return (
        "reactionMessage" in inner
        or "pollUpdateMessage" in inner
        or "pinInChatMessage" in inner
        # a tuple: nonsense need not be hashable
        or (bool(protocol) and protocol.get("type", "REVOKE") in ("REVOKE", "MESSAGE_EDIT"))
    )


def change_of(
    event: MessageReceived,
) -> EditRow | RevokeRow | ReactionRow | PollVoteRow | PinRow | None:
    """The change; None if the message names none, or does not say what it is about."""
    inner, _ = unwrapped(event.message)
    if reaction := sub(inner, "reactionMessage"):
        return _reaction(event, reaction)
    if update := sub(inner, "pollUpdateMessage"):
        return _poll_vote(event, update)
    if pin := sub(inner, "pinInChatMessage"):
        return _pin(event, pin)
    protocol = sub(inner, "protocolMessage")
    match protocol.get("type", "REVOKE") if protocol else None:
        case "MESSAGE_EDIT":
            return _edit(event, protocol)
        case "REVOKE":
            return _revoke(event, protocol)
        case _:
            return None


def _edit(event: MessageReceived, body: Fields) -> EditRow | None:
    common = _common(event, sub(body, "key"), _at(event, body, "timestampMS"))
    content = content_of(sub(body, "editedMessage"))
    if common is None or content is None or content.conteudo is None:
        return None
    return EditRow(
        **(common | {"target_from_me": event.from_me}),
        conteudo=content.conteudo,
        mentions=content.mentions,
    )


def _revoke(event: MessageReceived, body: Fields) -> RevokeRow | None:
    common = _common(event, sub(body, "key"), iso(event.sent_at))
    if common is None:
        return None
    by_admin = event.edit == BY_ADMIN
    return RevokeRow(
        **(common | {"target_from_me": None if by_admin else event.from_me}), by_admin=by_admin
    )


def _reaction(event: MessageReceived, body: Fields) -> ReactionRow | None:
    common = _common(event, sub(body, "key"), _at(event, body, "senderTimestampMS"))
    if common is None:
        return None
    emoji = body.get("text")
    return ReactionRow(
        **common, emoji=clean(emoji[:_MAX_EMOJI_CHARS]) or None if isinstance(emoji, str) else None
    )


def _poll_vote(event: MessageReceived, body: Fields) -> PollVoteRow | None:
    common = _common(
        event, sub(body, "pollCreationMessageKey"), _at(event, body, "senderTimestampMS")
    )
    if common is None or event.poll_vote is None:
        return None
    return PollVoteRow(**common, options=[clean(each) for each in event.poll_vote[:_MAX_CHOICES]])


def _pin(event: MessageReceived, body: Fields) -> PinRow | None:
    common = _common(event, sub(body, "key"), _at(event, body, "senderTimestampMS"))
    on = _PINS.get(word(body, "type") or "")
    return None if common is None or on is None else PinRow(**common, on=on)


def _common(event: MessageReceived, key: Fields, at: str) -> dict[str, Any] | None:
    """What all changes have; None if it is not said which message is meant."""
    target = label(key, "ID")
    if target is None or len(target) > _MAX_ID_CHARS:
        return None
    chat: Chat = chat_of(event.chat)
    return {
        "whatsapp_message_id": WhatsAppMessageId(clean(event.id)),
        "chat": chat,
        "peer": peer_of(chat, event.peer),
        "sender": sender_of(chat, event.sender),
        "from_me": event.from_me,
        "target_id": WhatsAppMessageId(target),
        "target_from_me": _target_from_me(event, chat, key),
        "at": at,
    }


def _target_from_me(event: MessageReceived, chat: Chat, key: Fields) -> bool | None:
    """`fromMe` of a key means: from whoever wrote the key."""
    is_theirs = key.get("fromMe") is True
    if chat.kind == "direct":
        return event.from_me == is_theirs
    if is_theirs:
        return event.from_me
    return None


def _at(event: MessageReceived, body: Fields, name: str) -> str:
    """When its sender made it: the order of several, which arrive in any."""
    told_ms = whole(body, name, most=_LATEST_MS)
    # the sender's clock, but never later than the server's: nothing may win for ever
    now_s = event.sent_at
    if not told_ms or told_ms / 1000 > now_s + 60:
        return iso(now_s)
    return iso(told_ms / 1000)
