"""What a message says: one match, one line a kind.

Input is the protobuf JSON form of `waE2E.Message`. It was written by whoever sent the message, so
nothing is taken for granted: a field of the wrong type is as good as absent.
`docs/kinds.md` is the public description of what comes out.
"""

from __future__ import annotations

from typing import Any

import msgspec

from bridge.normalise import interactive, media, places
from bridge.normalise.fields import (
    MAX_LABEL_CHARS,
    Fields,
    flag,
    items,
    known,
    label,
    sub,
    text,
    texts,
    whole,
    word,
)
from bridge.normalise.rows import AttachmentPart, Part, clean

# Messages that only wrap another one under `message`.
_VIEW_ONCE = frozenset({"viewOnceMessage", "viewOnceMessageV2", "viewOnceMessageV2Extension"})
WRAPPERS = (
    "ephemeralMessage",
    *sorted(_VIEW_ONCE),
    "documentWithCaptionMessage",
    "deviceSentMessage",
    "editedMessage",
    "groupMentionedMessage",
    "botInvokeMessage",
    "botForwardedMessage",
    "lottieStickerMessage",
    "associatedChildMessage",
    "questionMessage",
    "questionReplyMessage",
    "spoilerMessage",
    "pollCreationMessageV4",
    "pollCreationOptionImageMessage",
    "eventCoverImage",
    "groupStatusMessage",
    "groupStatusMessageV2",
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

# Said between devices or about other messages: no row of their own, or one made in `changes`.
_SILENT = frozenset(
    {
        "reactionMessage",
        "pollUpdateMessage",
        "pinInChatMessage",
        "keepInChatMessage",
        "albumMessage",  # announces images that follow as messages of their own
        "messageHistoryNotice",
        "messageHistoryBundle",
        "groupRootKeyShare",
        "rootSecretDistributeMessage",
        "stickerSyncRmrMessage",
        "call",
    }
)
_MAX_OPTIONS = 100
_MAX_MENTIONS = 2_000


class Content(Part, frozen=True):
    """The part of a row that depends on the kind of message."""

    tipo: str
    conteudo: str | None = None
    quoted: str | None = None
    mentions: list[str] = msgspec.field(default_factory=list)
    payload: dict[str, Any] = msgspec.field(default_factory=dict)
    attachment: AttachmentPart | None = None


def content_of(message: dict[str, Any], *, view_once: bool = False) -> Content | None:
    """What the message says; None if it says nothing to a person, or something about another one.

    Args:
        message: protobuf JSON.
        view_once: it was wrapped as such before.
    """
    inner, was_wrapped_once = unwrapped(message)
    name, body = _first_kind(inner)
    if name is None or name in _SILENT:
        return None
    content = _content(name, body, inner)
    if content is None:
        return None
    context = sub(body, "contextInfo")
    more = _circumstances(context)
    if view_once or was_wrapped_once:
        more["view_once"] = True
    return msgspec.structs.replace(
        content,
        quoted=label(context, "stanzaID"),
        mentions=texts(context, "mentionedJID", _MAX_MENTIONS),
        payload=content.payload | more,
    )


def unwrapped(message: dict[str, Any]) -> tuple[Fields, bool]:
    """The message inside all wrappers, and whether one of them said "view once"."""
    view_once = False
    for _ in range(_MAX_WRAPPERS):
        wrapper = next((name for name in WRAPPERS if isinstance(message.get(name), dict)), None)
        if wrapper is None:
            break
        inner = message[wrapper].get("message")
        if not isinstance(inner, dict):
            break
        view_once = view_once or wrapper in _VIEW_ONCE
        message = inner
    return message, view_once


def _content(name: str, body: Fields, inner: Fields) -> Content | None:  # noqa: C901, PLR0912 - one line a kind
    match name:
        case "conversation":
            return Content(tipo="text", conteudo=text(inner, "conversation") or "")
        case "extendedTextMessage":
            return Content(tipo="text", conteudo=text(body, "text") or "", payload=_link(body))
        case str() if name in media.KINDS:
            return _file(name, body)
        case "locationMessage" | "liveLocationMessage":
            return _said("location", *places.location(body, live=name == "liveLocationMessage"))
        case "contactMessage":
            return _said("contact", *places.contacts([body]))
        case "contactsArrayMessage":
            return _said("contact", *places.contacts(places.cards_of(body)))
        case str() if name.startswith("pollCreationMessage"):
            return _poll(body)
        case str() if name.startswith("pollResultSnapshotMessage"):
            return _poll_result(body)
        case "protocolMessage":
            return _protocol(body)
        case "buttonsMessage":
            return _with_header(body, interactive.buttons(body))
        case "listMessage":
            return _said("text", *interactive.list_(body))
        case "templateMessage":
            filled = sub(body, "hydratedTemplate") or sub(body, "hydratedFourRowTemplate")
            return _with_header(filled, interactive.template(body))
        case "highlyStructuredMessage":
            return _said("text", *interactive.structured(body))
        case "interactiveMessage":
            return _with_header(sub(body, "header"), interactive.interactive(body))
        case "buttonsResponseMessage":
            return _said("text", *interactive.buttons_reply(body))
        case "listResponseMessage":
            return _said("text", *interactive.list_reply(body))
        case "templateButtonReplyMessage":
            return _said("text", *interactive.template_reply(body))
        case "interactiveResponseMessage":
            return _said("text", *interactive.interactive_reply(body))
        case "productMessage":
            return _said("text", *interactive.product(body))
        case "orderMessage":
            return _said("text", *interactive.order(body))
        case "groupInviteMessage":
            return _said("text", *interactive.group_invite(body))
        case "eventMessage":
            return _said("text", *interactive.event(body))
        case "callLogMesssage":
            return _call_log(body)
        case "commentMessage":
            return content_of(sub(body, "message"))
        case "placeholderMessage":
            # hidden from linked devices; the phone shows it
            return Content(tipo="unsupported", payload={"raw_type": name, "unavailable": True})
        case _:
            return Content(tipo="unsupported", payload={"raw_type": clean(name)[:MAX_LABEL_CHARS]})


def _said(tipo: str, conteudo: str | None, payload: Fields) -> Content:
    return Content(tipo=tipo, conteudo=conteudo, payload=payload)


def _file(name: str, body: Fields) -> Content:
    kind = media.KINDS[name]
    return Content(
        tipo=kind,
        conteudo=media.conteudo_of(kind, body),
        payload=media.payload_of(name, kind, body),
        attachment=media.attachment_of(kind, body),
    )


def _with_header(header: Fields, read: interactive.Read) -> Content:
    """Readable text, under the picture or file that stands above it."""
    shown, payload = read
    for name, kind in media.KINDS.items():
        if body := sub(header, name):
            return Content(
                tipo=kind,
                conteudo=shown,
                payload=payload,
                attachment=media.attachment_of(kind, body),
            )
    return _said("text", shown, payload)


def _poll(body: Fields) -> Content:
    names = [label(option, "optionName") for option in items(body, "options")[:_MAX_OPTIONS]]
    selectable = whole(body, "selectableOptionsCount") or 0
    return Content(
        tipo="poll",
        conteudo=label(body, "name"),
        payload={
            "question": label(body, "name"),
            "options": [{"name": name} for name in names if name],
            "selectable": selectable,  # 0 = as many as one likes
        },
    )


def _poll_result(body: Fields) -> Content:
    votes = [
        {"name": label(each, "optionName"), "votes": whole(each, "optionVoteCount", most=2**53)}
        for each in items(body, "pollVotes")[:_MAX_OPTIONS]
    ]
    return Content(
        tipo="poll",
        conteudo=label(body, "name"),
        payload={"question": label(body, "name"), "options": votes, "final": True},
    )


def _protocol(body: Fields) -> Content | None:
    """Talk between devices, but for the timer of disappearing messages."""
    if body.get("type") != "EPHEMERAL_SETTING":
        return None
    seconds = whole(body, "ephemeralExpiration") or 0
    return Content(tipo="system", payload={"action": "disappearing", "seconds": seconds})


def _call_log(body: Fields) -> Content:
    outcome = word(body, "callOutcome")
    return Content(
        tipo="call",
        payload=known(
            video=flag(body, "isVideo"), duration_s=whole(body, "durationSecs", most=2**53)
        )
        | {"state": (outcome or "CONNECTED").lower()},
    )


def _link(body: Fields) -> Fields:
    """The preview of a link, as its sender made it."""
    preview = known(
        url=label(body, "matchedText"),
        title=label(body, "title"),
        description=label(body, "description"),
    )
    return {"link": preview} if len(preview) > 1 else {}


def _circumstances(context: Fields) -> Fields:
    """What goes for all kinds: forwarded, disappearing, quoted, come from an advertisement."""
    ad = sub(context, "externalAdReply")
    return known(
        forwarded=flag(context, "isForwarded") or (whole(context, "forwardingScore") or 0) > 0,
        forwarding_score=whole(context, "forwardingScore"),
        disappears_after_s=whole(context, "expiration"),
        quoted=_quoted(context),
        ad=known(
            title=label(ad, "title"),
            body=label(ad, "body"),
            url=label(ad, "sourceURL"),
            source_id=label(ad, "sourceID"),
            source_type=label(ad, "sourceType"),
            click_id=label(ad, "ctwaClid"),
        ),
    )


def _quoted(context: Fields) -> Fields:
    """The answered message as the sender's phone shows it: it may be older than our history."""
    if label(context, "stanzaID") is None:
        return {}
    inner, _ = unwrapped(sub(context, "quotedMessage"))
    name, body = _first_kind(inner)
    content = (
        _content(name, body, inner) if name and name not in _SILENT | {"commentMessage"} else None
    )
    return known(
        sender=label(context, "participant"),
        chat=label(context, "remoteJID"),
        tipo=content.tipo if content else None,
        conteudo=content.conteudo[:MAX_LABEL_CHARS] if content and content.conteudo else None,
    )


def _first_kind(message: Fields) -> tuple[str | None, Fields]:
    for name, body in message.items():
        if name not in _COMPANIONS:
            return name, body if isinstance(body, dict) else {}
    return None, {}
