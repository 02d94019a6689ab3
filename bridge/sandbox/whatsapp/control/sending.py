"""`POST /phones/{number}/messages`: from a body to what a phone sends."""

from __future__ import annotations

import base64
import binascii
import mimetypes
from typing import TypeVar

from bridge.sandbox.whatsapp.codec.nodes import JID
from bridge.sandbox.whatsapp.control.bodies import ControlError, NewMessage
from bridge.sandbox.whatsapp.phone.content import (
    MEDIA_TYPES,
    Content,
    Quote,
    edit_content,
    media_content,
    pin_content,
    reaction_content,
    revoke_content,
    text_content,
)
from bridge.sandbox.whatsapp.phone.kinds import (
    Manner,
    buttons_content,
    contact_content,
    disappearing_content,
    location_content,
    poll_content,
    vote_content,
)
from bridge.sandbox.whatsapp.phone.phone import Phone

_DEFAULT_MIME_TYPES = {
    "image": "image/jpeg",
    "video": "video/mp4",
    "audio": "audio/ogg; codecs=opus",
    "document": "application/octet-stream",
    "sticker": "image/webp",
}
_MAX_SELECTABLE = 12
_ABOUT_ANOTHER = ("reaction", "edit", "revoke", "poll_vote", "pin", "unpin")
_T = TypeVar("_T")


def send(phone: Phone, body: NewMessage) -> str:
    """Send a message; gives its id.

    :raises ControlError: 400 for a bad body, 404 for an unknown message.
    """
    to = body.group or body.to
    if not to:
        raise ControlError(400, "bad_request", "`to` (or `group`) is missing.")
    if to == "status@broadcast":
        viewers = [phone.server.directory.account(phone.chat_of(each)) for each in body.viewers]
        seen_by = [viewer for viewer in viewers if viewer is not None]
        return phone.post_status(seen_by, _content(phone, phone.account.lid, body))
    if to.endswith("@newsletter"):
        followers = [phone.server.directory.account(phone.chat_of(each)) for each in body.viewers]
        channel = JID.parse(to)
        readers = [follower for follower in followers if follower is not None]
        return phone.post_in_channel(channel, readers, _content(phone, channel, body))
    chat = phone.chat_of(to)
    content = _content(phone, chat, body)
    return phone.send(chat, content, garbled=body.garbled, withheld=body.withheld)


def _content(phone: Phone, chat: JID, body: NewMessage) -> Content:
    if body.type in _ABOUT_ANOTHER:
        return _about_another(phone, chat, body)
    quote = _known(phone, body.quoted_id, "quoted_id") if body.quoted_id else None
    manner = Manner(
        mentions=tuple(phone.chat_of(each) for each in body.mentions),
        forwarded=body.forwarded,
        disappears_after_s=body.disappears_after_s,
        view_once=body.view_once,
    )
    if body.type == "text":
        return manner.put_on(text_content(_text(body), quote))
    if body.type in MEDIA_TYPES:
        return manner.put_on(_media(phone, body, quote))
    if body.type == "disappearing":
        return disappearing_content(body.disappears_after_s or 0)
    manner = Manner(
        quote, manner.mentions, manner.forwarded, manner.disappears_after_s, manner.view_once
    )
    return manner.put_on(_other_kind(body))


def _about_another(phone: Phone, chat: JID, body: NewMessage) -> Content:
    target = _known(phone, body.target_id, "target_id")
    from_me = phone.state.known[target.id].from_me
    if body.type == "reaction":
        return reaction_content(chat, target, target_from_me=from_me, emoji=body.text or "")
    if body.type in ("pin", "unpin"):
        return pin_content(chat, target, from_me=from_me, on=body.type == "pin")
    if body.type == "poll_vote":
        try:
            group = phone.server.directory.group(chat)
            voter = phone.device.jid(group.addressing if group else chat)
            if from_me:  # named as the others of the chat name this phone
                target = Quote(target.id, voter, target.raw)
            return vote_content(chat, target, voter, body.options, poll_from_me=from_me)
        except ValueError as error:
            raise ControlError(409, "no_poll", "Only a poll can be voted in.") from error
    if body.type == "edit" and from_me:
        return edit_content(chat, target, _text(body))
    if body.type == "revoke" and (from_me or chat.is_group):
        return revoke_content(chat, target, own=from_me)
    raise ControlError(409, "not_own_message", f"Only an own message has a {body.type}.")


def _other_kind(body: NewMessage) -> Content:
    match body.type:
        case "location":
            return location_content(
                _given(body.latitude, "latitude"),
                _given(body.longitude, "longitude"),
                name=body.name,
                address=body.address,
                live=body.live,
            )
        case "contact" if body.contacts:
            return contact_content([(card.name, card.number) for card in body.contacts])
        case "poll" if body.options and 0 <= body.selectable <= _MAX_SELECTABLE:
            return poll_content(_text(body), body.options, body.selectable)
        case "buttons" if body.options:
            return buttons_content(_text(body), body.options)
        case "contact" | "poll" | "buttons":
            needed = "contacts" if body.type == "contact" else "options"
            raise ControlError(400, "bad_request", f"`{needed}` is missing or empty.")
        case "raw":
            try:
                raw = base64.b64decode(_given(body.message_base64, "message_base64"), validate=True)
            except binascii.Error as error:
                raise ControlError(400, "bad_request", "`message_base64` is not base64.") from error
            return Content(raw)
        case _:
            raise ControlError(400, "bad_request", f"There is no message type {body.type!r}.")


def _given(value: _T | None, name: str) -> _T:
    if value is None:
        raise ControlError(400, "bad_request", f"`{name}` is missing.")
    return value


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
    in_channel = (body.to or "").endswith("@newsletter")
    host = phone.server.media
    uploaded = host.add_open(data) if in_channel else host.add(data, body.type)
    if body.lost:
        host.lose(uploaded.direct_path)
    return media_content(
        body.type,
        uploaded,
        mime_type=body.mime_type or guessed or _DEFAULT_MIME_TYPES[body.type],
        caption=body.caption,
        file_name=body.file_name,
        voice_note=body.voice_note and body.type == "audio",
        quote=quote,
    )
