"""`POST /phones/{number}/messages`: from a body to what a phone sends."""

from __future__ import annotations

import base64
import binascii
import mimetypes

from bridge.sandbox.whatsapp.codec.nodes import JID
from bridge.sandbox.whatsapp.control.bodies import ControlError, NewMessage
from bridge.sandbox.whatsapp.phone.content import (
    MEDIA_TYPES,
    Content,
    Quote,
    edit_content,
    media_content,
    reaction_content,
    revoke_content,
    text_content,
)
from bridge.sandbox.whatsapp.phone.phone import Phone

_DEFAULT_MIME_TYPES = {
    "image": "image/jpeg",
    "video": "video/mp4",
    "audio": "audio/ogg; codecs=opus",
    "document": "application/octet-stream",
}
_NOT_YET = ("sticker", "location", "contact", "poll")


def send(phone: Phone, body: NewMessage) -> str:
    """Send a message; gives its id.

    :raises ControlError: 400 for a bad body, 404 for an unknown message, 501 for a kind that is
        not simulated yet.
    """
    to = body.group or body.to
    if not to:
        raise ControlError(400, "bad_request", "`to` (or `group`) is missing.")
    chat = phone.chat_of(to)
    return phone.send(chat, _content(phone, chat, body), garbled=body.garbled)


def _content(phone: Phone, chat: JID, body: NewMessage) -> Content:
    quote = _known(phone, body.quoted_id, "quoted_id") if body.quoted_id else None
    if body.type == "text":
        return text_content(_text(body), quote)
    if body.type in MEDIA_TYPES:
        return _media(phone, body, quote)
    if body.type in ("reaction", "edit", "revoke"):
        target = _known(phone, body.target_id, "target_id")
        from_me = phone.state.known[target.id].from_me
        if body.type == "reaction":
            emoji = body.text or ""
            return reaction_content(chat, target, target_from_me=from_me, emoji=emoji)
        if not from_me:
            raise ControlError(409, "not_own_message", f"Only an own message has a {body.type}.")
        if body.type == "edit":
            return edit_content(chat, target, _text(body))
        return revoke_content(chat, target)
    if body.type in _NOT_YET:
        raise ControlError(
            501, "not_simulated", f"Messages of type {body.type} are not simulated yet."
        )
    raise ControlError(400, "bad_request", f"There is no message type {body.type!r}.")


def _text(body: NewMessage) -> str:
    if not body.text:
        raise ControlError(400, "bad_request", "`text` is missing or empty.")
    return body.text


def _known(phone: Phone, id_: str | None, name: str) -> Quote:
    if not id_:
        raise ControlError(400, "bad_request", f"`{name}` is missing.")
    quote = phone.quote(id_)
    if quote is None:
        raise ControlError(404, "unknown_message", f"This phone knows no message {id_} ({name}).")
    return quote


def _media(phone: Phone, body: NewMessage, quote: Quote | None) -> Content:
    if body.media_base64 is None:
        raise ControlError(400, "bad_request", "`media_base64` is missing.")
    try:
        data = base64.b64decode(body.media_base64, validate=True)
    except binascii.Error as error:
        raise ControlError(400, "bad_request", "`media_base64` is not base64.") from error
    guessed = mimetypes.guess_type(body.file_name or "")[0]
    return media_content(
        body.type,
        phone.server.media.add(data, body.type),
        mime_type=body.mime_type or guessed or _DEFAULT_MIME_TYPES[body.type],
        caption=body.caption,
        file_name=body.file_name,
        voice_note=body.voice_note and body.type == "audio",
        quote=quote,
    )
