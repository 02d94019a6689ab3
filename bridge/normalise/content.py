"""What a message says: one match, one line a kind.

Input is the protobuf JSON form of `waE2E.Message`. It was written by whoever sent the message, so
nothing is taken for granted: a field of the wrong type is as good as absent.
"""

from __future__ import annotations

from typing import Any

import msgspec

from bridge.normalise.rows import Part, clean

# Messages that only wrap another one under `message`.
WRAPPERS = (
    "ephemeralMessage",
    "viewOnceMessage",
    "viewOnceMessageV2",
    "viewOnceMessageV2Extension",
    "documentWithCaptionMessage",
    "deviceSentMessage",
    "editedMessage",
    "groupMentionedMessage",
    "botInvokeMessage",
    "lottieStickerMessage",
    "associatedChildMessage",
    "questionMessage",
    "spoilerMessage",
)
_MAX_WRAPPERS = 8

# Fields that go along with a message and are none themselves.
_COMPANIONS = frozenset(
    {
        "messageContextInfo",
        "senderKeyDistributionMessage",
        "fastRatchetKeySenderKeyDistributionMessage",
    }
)

# `protocolMessage` is mostly talk between devices (keys, settings): no row. These two are about a
# message that a person sees.
_VISIBLE_PROTOCOL = {
    "REVOKE": "protocolMessage.REVOKE",
    "MESSAGE_EDIT": "protocolMessage.MESSAGE_EDIT",
}


class Content(Part, frozen=True):
    """The part of a row that depends on the kind of message."""

    tipo: str
    conteudo: str | None = None
    quoted: str | None = None
    mentions: list[str] = msgspec.field(default_factory=list)
    payload: dict[str, Any] = msgspec.field(default_factory=dict)


def content_of(message: dict[str, Any]) -> Content | None:
    """What the message says; None if it says nothing to a person."""
    inner = _unwrapped(message)
    name, body = _first_kind(inner)
    match name:
        case None:
            return None
        case "conversation":
            return _text(inner.get("conversation"), {})
        case "extendedTextMessage":
            return _text(body.get("text"), body.get("contextInfo"))
        case "protocolMessage":
            raw_type = _VISIBLE_PROTOCOL.get(str(body.get("type", "REVOKE")))
            return _unsupported(raw_type, {}) if raw_type else None
        case _:
            return _unsupported(name, body.get("contextInfo"))


def _text(text: Any, context: Any) -> Content:
    return Content(
        tipo="text",
        conteudo=clean(text) if isinstance(text, str) else "",
        quoted=_quoted(context),
        mentions=_mentions(context),
    )


def _unsupported(raw_type: str, context: Any) -> Content:
    return Content(
        tipo="unsupported",
        quoted=_quoted(context),
        mentions=_mentions(context),
        payload={"raw_type": clean(raw_type)},
    )


def _unwrapped(message: dict[str, Any]) -> dict[str, Any]:
    for _ in range(_MAX_WRAPPERS):
        wrapper = next((name for name in WRAPPERS if isinstance(message.get(name), dict)), None)
        if wrapper is None:
            break
        inner = message[wrapper].get("message")
        if not isinstance(inner, dict):
            break
        message = inner
    return message


def _first_kind(message: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    for name, body in message.items():
        if name not in _COMPANIONS:
            return name, body if isinstance(body, dict) else {}
    return None, {}


def _quoted(context: Any) -> str | None:
    quoted = context.get("stanzaID") if isinstance(context, dict) else None
    return clean(quoted) or None if isinstance(quoted, str) else None


def _mentions(context: Any) -> list[str]:
    mentioned = context.get("mentionedJID") if isinstance(context, dict) else None
    if not isinstance(mentioned, list):
        return []
    return [clean(jid) for jid in mentioned if isinstance(jid, str)]
