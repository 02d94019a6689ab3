"""Messages that are neither text nor a file: places, cards, polls, buttons."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bridge.sandbox.whatsapp.codec import protobuf
from bridge.sandbox.whatsapp.codec.nodes import JID
from bridge.sandbox.whatsapp.crypto.ciphers import hkdf
from bridge.sandbox.whatsapp.phone.content import Content, Quote, message_key

_TEXT, _EXTENDED = 1, 6
_SECRETS = 35
_VIEW_ONCE = 55
# where a kind has its `contextInfo`, if not here
_CONTEXT_OF = {4: 17, 5: 17, 18: 17, 28: 7, 36: 8, 42: 8, 43: 3, 45: 15, 49: 5, 60: 5, 64: 5}
_CONTEXT = 17


@dataclass(frozen=True, slots=True)
class Manner:
    """What goes for messages of all kinds."""

    quote: Quote | None = None
    mentions: tuple[JID, ...] = ()
    forwarded: bool = False
    disappears_after_s: int | None = None
    view_once: bool = False

    def put_on(self, content: Content) -> Content:
        """The same message, quoting, forwarded, and so on."""
        raw = content.raw
        if context := self._context():
            fields = protobuf.decode(raw)
            if _TEXT in fields:
                inner = protobuf.encode((1, fields.text(_TEXT)))
                number = _EXTENDED
            else:
                number = next(each for each in fields.numbers() if each != _SECRETS)
                inner = fields.bytes_(number)
            inner += protobuf.encode((_CONTEXT_OF.get(number, _CONTEXT), context))
            luggage = fields.bytes_(_SECRETS) or None
            raw = protobuf.encode((number, inner), (_SECRETS, luggage))
        if self.view_once:
            raw = protobuf.encode((_VIEW_ONCE, protobuf.encode((1, raw))))
        return Content(raw, content.stanza_type, content.media_type, content.edit)

    def _context(self) -> bytes:
        quote = self.quote
        return protobuf.encode(
            (1, quote.id if quote else None),
            (2, str(quote.sender.bare) if quote else None),
            (3, quote.raw if quote else None),
            (15, [str(jid.bare) for jid in self.mentions]),
            (21, 1 if self.forwarded else None),
            (22, True if self.forwarded else None),
            (25, self.disappears_after_s),
        )


def location_content(
    latitude: float, longitude: float, *, name: str | None, address: str | None, live: bool
) -> Content:
    """A place; a live one moves."""
    if live:
        body = protobuf.encode((1, latitude), (2, longitude), (6, name), (7, 1))
        return Content(protobuf.encode((18, body)), "media", "livelocation")
    body = protobuf.encode((1, latitude), (2, longitude), (3, name), (4, address))
    return Content(protobuf.encode((5, body)), "media", "location")


def contact_content(cards: Sequence[tuple[str, str]]) -> Content:
    """Contact cards of people by name and number."""
    encoded = [protobuf.encode((1, name), (16, _vcard(name, number))) for name, number in cards]
    if len(encoded) == 1:
        return Content(protobuf.encode((4, encoded[0])), "media", "vcard")
    title = f"{len(encoded)} contacts"
    raw = protobuf.encode((13, protobuf.encode((1, title), (2, encoded))))
    return Content(raw, "media", "contact_array")


def poll_content(question: str, options: Sequence[str], selectable: int) -> Content:
    """A poll. Its secret travels with it: votes are encrypted with that."""
    body = protobuf.encode(
        (2, question), (3, [protobuf.encode((1, option)) for option in options]), (4, selectable)
    )
    luggage = protobuf.encode((3, os.urandom(32)))
    return Content(
        protobuf.encode((64 if selectable == 1 else 49, body), (_SECRETS, luggage)), "poll"
    )


def vote_content(
    chat: JID, poll: Quote, voter: JID, options: Sequence[str], *, poll_from_me: bool
) -> Content:
    """A vote; no options take it back.

    :raises ValueError: if the message is no poll.
    """
    secret = protobuf.decode(poll.raw).sub(_SECRETS).bytes_(3)
    if not secret:
        raise ValueError("the message has no secret: it is no poll")
    author, me = str(poll.sender.bare), str(voter.bare)
    key = hkdf(secret, 32, f"{poll.id}{author}{me}Poll Vote".encode())
    chosen = [hashlib.sha256(option.encode()).digest() for option in options]
    iv = secrets.token_bytes(12)
    sealed = AESGCM(key).encrypt(iv, protobuf.encode((1, chosen)), f"{poll.id}\0{me}".encode())
    body = protobuf.encode(
        (1, message_key(chat, poll, from_me=poll_from_me)),
        (2, protobuf.encode((1, sealed), (2, iv))),
        (4, int(time.time() * 1000)),
    )
    return Content(protobuf.encode((50, body)), "poll")


def buttons_content(text: str, buttons: Sequence[str]) -> Content:
    """A text with reply buttons, as businesses send it."""
    encoded = [
        protobuf.encode((1, f"button-{place}"), (2, protobuf.encode((1, title))), (3, 1))
        for place, title in enumerate(buttons)
    ]
    return Content(protobuf.encode((42, protobuf.encode((6, text), (9, encoded), (10, 1)))))


def disappearing_content(seconds: int) -> Content:
    """New messages of this chat disappear after a while; 0 = no more."""
    return Content(protobuf.encode((12, protobuf.encode((2, 3), (4, seconds)))))


def _vcard(name: str, number: str) -> str:
    return (
        f"BEGIN:VCARD\nVERSION:3.0\nN:;{name};;;\nFN:{name}\n"
        f"item1.TEL;waid={number}:+{number}\nEND:VCARD"
    )
