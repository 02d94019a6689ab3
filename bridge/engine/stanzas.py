"""What whatsmeow's DEBUG log shows of the stanzas that come and go; pure.

A log entry is a small protobuf: the text first, the logger's name last. Stanzas are shown as
XML-like text, in the goroutine that is about to queue or to write them; contents of more than 128
bytes are shown as their length. Attributes are sorted and not escaped, so what people choose (the
push name, `notify`) may hold anything: only what stands before or behind it is believed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

RECEIVED = b"Client/Recv"
SENT = b"Client/Send"
_LOG = b"\x1a\x06Client"

_DECRYPTING = b"Decrypting message from"
_IGNORING = re.compile(rb"Ignoring message (\S+) from ")
_ID = re.compile(rb'<\w+(?: [^>]*?)? id="([^"]+)"')
_TAG = re.compile(rb"<(\w+)")
_CLASS = re.compile(rb'<ack class="(\w+)"')
_BEHIND_NAMES = re.compile(rb'.* t="\d+"', re.DOTALL)
_LENGTHS = re.compile(rb"<!-- (\d+) bytes -->")
_HEX = re.compile(rb">([0-9a-f]+)</enc>")
_ERROR = re.compile(rb' error="\d+"')
_PING = re.compile(rb'<iq [^>]*xmlns="w:p"')


@dataclass(frozen=True, slots=True)
class Stanza:
    """One stanza, as far as it matters.

    Attributes:
        tag: its name.
        id: empty if it has none.
        text: as it is shown.
    """

    tag: str
    id: str
    text: bytes

    @property
    def parts(self) -> int:
        """Of a `message` that came: how many ciphertexts it has."""
        behind = _BEHIND_NAMES.match(self.text)
        return self.text.count(b"<enc ", behind.end() if behind else 0)

    @property
    def acknowledges(self) -> str:
        """Of an `ack`: the kind of stanza that it is for."""
        found = _CLASS.match(self.text)
        return found[1].decode() if found else ""

    @property
    def refuses(self) -> bool:
        """Of an `ack`: it says that the stanza could not be used."""
        return self.tag == "ack" and _ERROR.search(self.text) is not None

    @property
    def is_ping(self) -> bool:
        """It keeps the connection, and depends on nothing."""
        return self.tag == "iq" and _PING.match(self.text) is not None

    @property
    def bounds(self) -> tuple[int, int]:
        """Of a `message` that goes: between how many bytes it has on the wire, about."""
        content = sum(int(length) for length in _LENGTHS.findall(self.text))
        content += sum(len(found) // 2 for found in _HEX.findall(self.text))
        return content + 40, content + len(self.text) + 64


@dataclass(frozen=True, slots=True)
class Ignored:
    """A ciphertext of this message makes no event: it was decrypted before."""

    id: str


class Decrypting:
    """The next message is decrypted when the callback returns."""


DECRYPTING = Decrypting()


def came(entry: bytes) -> Stanza | None:
    """The stanza that an entry shows as received."""
    return _stanza(entry) if entry.endswith(RECEIVED) else None


def goes(entry: bytes) -> Stanza | None:
    """The stanza that an entry shows as about to be written."""
    return _stanza(entry) if entry.endswith(SENT) else None


def told(entry: bytes) -> Ignored | Decrypting | None:
    """What an entry of the client itself says about a decryption."""
    if not entry.endswith(_LOG):
        return None
    text = _text(entry)
    if text.startswith(_DECRYPTING):
        return DECRYPTING
    found = _IGNORING.match(text)
    return Ignored(found[1].decode("utf-8", "replace")) if found else None


def _stanza(entry: bytes) -> Stanza:
    text = _text(entry)
    tag, id_ = _TAG.match(text), _ID.match(text)
    return Stanza(
        tag[1].decode() if tag else "", id_[1].decode("utf-8", "replace") if id_ else "", text
    )


def _text(entry: bytes) -> bytes:
    """Field 1 of the protobuf, which comes first."""
    if entry[:1] != b"\n":
        return b""
    size = shift = 0
    for at in range(1, min(len(entry), 6)):
        size |= (entry[at] & 0x7F) << shift
        shift += 7
        if entry[at] < 0x80:
            return entry[at + 1 : at + 1 + size]
    return b""
