"""What is inside a message (`waE2E.Message`): building it, and telling what it says."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass, field
from typing import Any

from bridge.sandbox.whatsapp.codec import protobuf
from bridge.sandbox.whatsapp.codec.nodes import JID
from bridge.sandbox.whatsapp.codec.protobuf import Fields
from bridge.sandbox.whatsapp.phone.inbox import MediaNote
from bridge.sandbox.whatsapp.server.media_host import Uploaded

_TEXT, _SENDER_KEY, _EXTENDED, _PROTOCOL, _DEVICE_SENT, _REACTION, _EDITED = 1, 2, 6, 12, 31, 46, 58
_REVOKE, _EDIT = 0, 14
_PIN = 63
_CONTEXT, _POLL_CONTEXT = 17, 5
_WRAPPERS = (37, 40, 53, 55, _EDITED)  # view once, ephemeral, document with caption, …
_ONCE = (37, 55)  # the wrappers of what is seen once
_CALLED = {
    4: "contact",
    5: "location",
    13: "contact",
    18: "location",
    26: "sticker",
    49: "poll",
    64: "poll",
}
_ARRAY, _LIVE, _STICKER_MOVES = 13, 18, 13


@dataclass(frozen=True, slots=True)
class Content:
    """A message ready to be encrypted, and what its stanza says about it in the clear."""

    raw: bytes
    stanza_type: str = "text"
    media_type: str | None = None
    edit: str | None = None


@dataclass(frozen=True, slots=True)
class Quote:
    """The message that another one answers."""

    id: str
    sender: JID
    raw: bytes


@dataclass(frozen=True, slots=True)
class _MediaFields:
    """Field numbers of one kind of media message."""

    message: int
    mime_type: int
    sha256: int
    size: int
    key: int
    enc_sha256: int
    path: int
    key_time: int
    caption: int | None = None
    file_name: int | None = None


_MEDIA = {
    "image": _MediaFields(3, 2, 4, 5, 8, 9, 11, 12, caption=3),
    "document": _MediaFields(7, 2, 4, 5, 7, 9, 10, 11, caption=20, file_name=8),
    "audio": _MediaFields(8, 2, 3, 4, 7, 8, 9, 10),
    "video": _MediaFields(9, 2, 3, 4, 6, 11, 13, 14, caption=7),
    "sticker": _MediaFields(26, 5, 2, 9, 4, 3, 8, 10),
}
MEDIA_TYPES = tuple(_MEDIA)


@dataclass(frozen=True, slots=True)
class Said:
    """What a message says, in the words of the control API."""

    type: str
    text: str | None = None
    quoted_id: str | None = None
    target_id: str | None = None
    media: MediaNote | None = None
    details: dict[str, Any] = field(default_factory=dict)


# --------------------------------------------------------------------------- building


def text_content(text: str, quote: Quote | None) -> Content:
    """A text; one that answers another is an extended text."""
    if quote is None:
        return Content(protobuf.encode((_TEXT, text)))
    extended = protobuf.encode((1, text), (_CONTEXT, _context(quote)))
    return Content(protobuf.encode((_EXTENDED, extended)))


def media_content(
    kind: str,
    media: Uploaded,
    *,
    mime_type: str,
    caption: str | None,
    file_name: str | None,
    voice_note: bool,
    quote: Quote | None,
) -> Content:
    """A message about a file on the media host; `kind` is one of `MEDIA_TYPES`."""
    numbers = _MEDIA[kind]
    fields: list[tuple[int, protobuf.Value]] = [
        (1, media.url),
        (numbers.mime_type, mime_type),
        (numbers.sha256, media.file_sha256),
        (numbers.size, media.size_bytes),
        (numbers.key, media.media_key),
        (numbers.enc_sha256, media.file_enc_sha256),
        (numbers.path, media.direct_path),
        (numbers.key_time, int(time.time())),
        (_CONTEXT, _context(quote) if quote else None),
    ]
    if numbers.caption:
        fields.append((numbers.caption, caption))
    if numbers.file_name:
        fields.append((numbers.file_name, file_name))
    if kind == "audio":
        fields += [(5, 1), (6, True if voice_note else None)]
    if kind == "image":
        fields += [(6, 1), (7, 1)]
    raw = protobuf.encode((numbers.message, protobuf.encode(*fields)))
    return Content(raw, "media", "ptt" if voice_note else kind)


def reaction_content(chat: JID, target: Quote, *, target_from_me: bool, emoji: str) -> Content:
    """A reaction; an empty emoji takes it back."""
    key = message_key(chat, target, from_me=target_from_me)
    now_ms = int(time.time() * 1000)
    return Content(
        protobuf.encode((_REACTION, protobuf.encode((1, key), (2, emoji), (4, now_ms)))), "reaction"
    )


def edit_content(chat: JID, target: Quote, text: str) -> Content:
    """A new text for an own message, or a new caption for its file, which comes along again."""
    protocol = protobuf.encode(
        (1, message_key(chat, target, from_me=True)),
        (2, _EDIT),
        (14, _with_text(target.raw, text)),
        (15, int(time.time() * 1000)),
    )
    wrapped = protobuf.encode((1, protobuf.encode((_PROTOCOL, protocol))))
    return Content(protobuf.encode((_EDITED, wrapped)), edit="1")


def _with_text(raw: bytes, text: str) -> bytes:
    message = protobuf.decode(raw)
    for kind in _MEDIA.values():
        if kind.message in message and kind.caption:
            # of a field that is there twice the last one counts
            body = message.bytes_(kind.message) + protobuf.encode((kind.caption, text))
            return protobuf.encode((kind.message, body))
    return protobuf.encode((_TEXT, text))


def pin_content(chat: JID, target: Quote, *, from_me: bool, on: bool) -> Content:
    """A message is kept on top of the chat for everybody, or no longer."""
    pin = protobuf.encode(
        (1, message_key(chat, target, from_me=from_me)),
        (2, 1 if on else 2),
        (3, int(time.time() * 1000)),
    )
    return Content(protobuf.encode((_PIN, pin)), "text", edit="2")


def revoke_content(chat: JID, target: Quote, *, own: bool = True) -> Content:
    """A message is deleted for everybody: an own one, or as an admin somebody else's."""
    protocol = protobuf.encode((1, message_key(chat, target, from_me=own)), (2, _REVOKE))
    return Content(protobuf.encode((_PROTOCOL, protocol)), edit="7" if own else "8")


def sent_copy(chat: JID, raw: bytes) -> bytes:
    """How one's own other devices get a message that one sent."""
    return protobuf.encode((_DEVICE_SENT, protobuf.encode((1, str(chat)), (2, raw))))


def sender_key_content(group: JID, distribution: bytes) -> bytes:
    """The message that gives a device our key for a group."""
    return protobuf.encode((_SENDER_KEY, protobuf.encode((1, str(group)), (2, distribution))))


def _context(quote: Quote) -> bytes:
    return protobuf.encode((1, quote.id), (2, str(quote.sender.bare)), (3, quote.raw))


def message_key(chat: JID, target: Quote, *, from_me: bool) -> bytes:
    """How a message names another one."""
    participant = str(target.sender.bare) if chat.is_group and not from_me else None
    return protobuf.encode((1, str(chat)), (2, from_me), (3, target.id), (4, participant))


# --------------------------------------------------------------------------- reading


def distributed_key(message: Fields) -> tuple[str, bytes] | None:
    """Group and sender key that a message brings along."""
    if _SENDER_KEY not in message:
        return None
    distribution = message.sub(_SENDER_KEY)
    return distribution.text(1), distribution.bytes_(2)


def unwrap_sent_copy(message: Fields) -> tuple[JID, bytes] | None:
    """Chat and content, if this is the copy of a message that an own device sent."""
    if _DEVICE_SENT not in message:
        return None
    wrapper = message.sub(_DEVICE_SENT)
    return JID.parse(wrapper.text(1)), wrapper.bytes_(2)


def read_content(raw: bytes) -> Said:
    """Tell what a message says; a kind without a name here is `unsupported`."""
    message = protobuf.decode(raw)
    for number in _WRAPPERS:
        if number in message:
            said = read_content(message.sub(number).bytes_(1))
            if number in _ONCE:
                said.details["view_once"] = True
            return said
    for kind, numbers in _MEDIA.items():
        if numbers.message in message:
            return _read_media(kind, message.sub(numbers.message), numbers)
    if _TEXT in message:
        return Said("text", message.text(_TEXT))
    if _EXTENDED in message:
        return _read_extended(message.sub(_EXTENDED))
    return _read_change(message) or _read_other(message)


def _read_change(message: Fields) -> Said | None:
    """What is about another message."""
    if _REACTION in message:
        reaction = message.sub(_REACTION)
        return Said("reaction", reaction.text(2), target_id=reaction.sub(1).text(3))
    if _PIN in message:
        pin = message.sub(_PIN)
        return Said("pin" if pin.integer(2) == 1 else "unpin", target_id=pin.sub(1).text(3))
    return _read_protocol(message.sub(_PROTOCOL)) if _PROTOCOL in message else None


def _read_extended(extended: Fields) -> Said:
    said = Said("text", extended.text(1), quoted_id=extended.sub(_CONTEXT).text(1) or None)
    said.details.update(_circumstances(extended.sub(_CONTEXT)))
    if title := extended.text(6):
        preview = {"url": extended.text(2), "title": title, "description": extended.text(5)}
        said.details["preview"] = preview
    return said


def _read_other(message: Fields) -> Said:
    number = next((each for each in _CALLED if each in message), None)
    if number is None:
        return Said("unsupported")
    name, fields = _CALLED[number], message.sub(number)
    context = fields.sub(_POLL_CONTEXT if name == "poll" else _CONTEXT)
    said = _read_named(name, number, fields, context.text(1) or None)
    said.details.update(_circumstances(context))
    return said


def _read_named(name: str, number: int, fields: Fields, quoted: str | None) -> Said:
    match name:
        case "location":
            place: dict[str, Any] = {"latitude": fields.double(1), "longitude": fields.double(2)}
            if number == _LIVE:
                place["live"] = True
                return Said(name, fields.text(6) or None, quoted_id=quoted, details=place)
            place |= {"name": fields.text(3), "address": fields.text(4)}
            return Said(name, fields.text(3) or None, quoted_id=quoted, details=place)
        case "contact" if number == _ARRAY:
            cards = [card.text(16) for card in fields.subs(2)]
            return Said(name, fields.text(1), quoted_id=quoted, details={"vcards": cards})
        case "contact":
            return Said(name, fields.text(1), quoted_id=quoted, details={"vcard": fields.text(16)})
        case "poll":
            options = [option.text(1) for option in fields.subs(3)]
            poll = {"options": options, "selectable": fields.integer(4)}
            return Said(name, fields.text(2), quoted_id=quoted, details=poll)
        case _:
            return Said(name, quoted_id=quoted)


def _circumstances(context: Fields) -> dict[str, Any]:
    told = {
        "mentions": [raw.decode() for raw in context.all_bytes(15)],
        "forwarded": bool(context.integer(22)),
        "disappears_after_s": context.integer(25),
    }
    return {name: value for name, value in told.items() if value}


def _read_protocol(protocol: Fields) -> Said:
    target = protocol.sub(1).text(3)
    kind = protocol.integer(2)
    if kind == _REVOKE and target:
        return Said("revoke", target_id=target)
    if kind == _EDIT:
        edited = read_content(protocol.bytes_(14))
        return Said("edit", edited.text, target_id=target, media=edited.media)
    return Said("protocol", str(kind))


def _read_media(kind: str, fields: Fields, numbers: _MediaFields) -> Said:
    note = MediaNote(
        kind=kind,
        mime_type=fields.text(numbers.mime_type),
        file_name=fields.text(numbers.file_name) or None if numbers.file_name else None,
        size_bytes=fields.integer(numbers.size),
        sha256=fields.bytes_(numbers.sha256).hex(),
        voice_note=kind == "audio" and bool(fields.integer(6)),
        direct_path=fields.text(numbers.path),
        media_key=base64.b64encode(fields.bytes_(numbers.key)).decode(),
    )
    caption = fields.text(numbers.caption) or None if numbers.caption else None
    context = fields.sub(_CONTEXT)
    details = _circumstances(context)
    if kind == "sticker" and fields.integer(_STICKER_MOVES):
        details["animated"] = True
    return Said(kind, caption, quoted_id=context.text(1) or None, media=note, details=details)
