"""WhatsApp's binary XML: stanzas as bytes, with a dictionary of common strings (version 3)."""

from __future__ import annotations

import zlib

from bridge.sandbox.whatsapp.codec.nodes import JID, Attrs, Node
from bridge.sandbox.whatsapp.codec.tokens import Tokens

_LIST_EMPTY, _DICTIONARY_0, _DICTIONARY_3 = 0, 236, 239
_INTEROP_JID, _FACEBOOK_JID, _DEVICE_JID, _LIST_8, _LIST_16, _JID_PAIR = (
    245,
    246,
    247,
    248,
    249,
    250,
)
_HEX_8, _BINARY_8, _BINARY_20, _BINARY_32, _NIBBLE_8 = 251, 252, 253, 254, 255
_BINARY_SIZES = {_BINARY_8: 1, _BINARY_20: 3, _BINARY_32: 4}
_ALPHABETS = {_NIBBLE_8: "0123456789-.", _HEX_8: "0123456789ABCDEF"}
_PADDING = 15
_COMPRESSED = 2
_MAX_PLAIN_BYTES = 1 << 26
_MAX_DEPTH = 64

# The byte in front of a device that names the domain of its user.
_DOMAINS = {"s.whatsapp.net": 0, "lid": 1, "hosted": 128, "hosted.lid": 129}
_DOMAIN_NAMES = {code: name for name, code in _DOMAINS.items()}


class BinaryError(ValueError):
    """The bytes are not one well-formed stanza."""


class BinaryCodec:
    """Encodes and decodes stanzas with one table of tokens."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._codes = {
            token: bytes([_DICTIONARY_0 + number, index])
            for number, dictionary in enumerate(tokens.double)
            for index, token in enumerate(dictionary)
            if token
        } | {token: bytes([index]) for index, token in enumerate(tokens.single) if token}

    def encode(self, node: Node) -> bytes:
        """Plaintext of a frame: a flag byte (0: not compressed) and the node."""
        out = bytearray(b"\0")
        self._write_node(out, node)
        return bytes(out)

    def decode(self, plaintext: bytes) -> Node:
        """Read the plaintext of one frame.

        :raises BinaryError: if it is not exactly one node.
        """
        if not plaintext:
            raise BinaryError("empty frame")
        data = plaintext[1:]
        if plaintext[0] & _COMPRESSED:
            data = _inflate(data)
        reader = _Reader(data, self._tokens)
        try:
            node = reader.node(0)
        except UnicodeDecodeError as error:
            raise BinaryError("a string is not UTF-8") from error
        if reader.position != len(data):
            raise BinaryError(f"{len(data) - reader.position} bytes left after the node")
        return node

    def _write_node(self, out: bytearray, node: Node) -> None:
        attrs = [(name, value) for name, value in node.attrs.items() if value not in (None, "")]
        _write_list_start(out, 1 + 2 * len(attrs) + (node.content is not None))
        self._write_string(out, node.tag)
        for name, value in attrs:
            self._write_string(out, name)
            if isinstance(value, JID):
                self._write_jid(out, value)
            else:
                self._write_string(out, str(value))
        if isinstance(node.content, list):
            _write_list_start(out, len(node.content))
            for child in node.content:
                self._write_node(out, child)
        elif isinstance(node.content, str):
            self._write_string(out, node.content)
        elif node.content is not None:
            _write_raw(out, node.content)

    def _write_string(self, out: bytearray, text: str) -> None:
        if (code := self._codes.get(text)) is not None:
            out += code
            return
        for tag, alphabet in _ALPHABETS.items():
            if 0 < len(text) <= 127 and all(letter in alphabet for letter in text):
                _write_packed(out, text, tag, alphabet)
                return
        _write_raw(out, text.encode())

    def _write_jid(self, out: bytearray, jid: JID) -> None:
        if (jid.device and jid.server in _DOMAINS) or jid.server.startswith("hosted"):
            out += bytes([_DEVICE_JID, _DOMAINS[jid.server], jid.device])
            self._write_string(out, jid.user)
            return
        out.append(_JID_PAIR)
        if jid.user:
            self._write_string(out, jid.user)
        else:
            out.append(_LIST_EMPTY)
        self._write_string(out, jid.server)


def _inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(data, _MAX_PLAIN_BYTES)
    except zlib.error as error:
        raise BinaryError("not zlib data") from error
    if not inflater.eof:
        raise BinaryError("compressed data is cut short or too large")
    return plain


def _write_list_start(out: bytearray, size: int) -> None:
    if size == 0:
        out.append(_LIST_EMPTY)
    elif size < 256:
        out += bytes([_LIST_8, size])
    else:
        out += bytes([_LIST_16]) + size.to_bytes(2, "big")


def _write_raw(out: bytearray, raw: bytes) -> None:
    if len(raw) < 256:
        out += bytes([_BINARY_8, len(raw)])
    elif len(raw) < 1 << 20:
        out += bytes([_BINARY_20]) + len(raw).to_bytes(3, "big")
    else:
        out += bytes([_BINARY_32]) + len(raw).to_bytes(4, "big")
    out += raw


def _write_packed(out: bytearray, text: str, tag: int, alphabet: str) -> None:
    codes = [alphabet.index(letter) for letter in text]
    odd = len(codes) % 2
    if odd:
        codes.append(_PADDING)
    out += bytes([tag, len(codes) // 2 | odd << 7])
    out += bytes(high << 4 | low for high, low in zip(codes[::2], codes[1::2], strict=True))


class _Reader:
    """One pass over the bytes of one stanza."""

    def __init__(self, data: bytes, tokens: Tokens) -> None:
        self.position = 0
        self._data = data
        self._tokens = tokens

    def node(self, depth: int) -> Node:
        if depth > _MAX_DEPTH:
            raise BinaryError("nested too deep")
        size = self._list_size(self._number(1))
        if size == 0:
            raise BinaryError("empty node")
        tag = self._string()
        attrs: Attrs = {}
        for _ in range((size - 1) // 2):
            name = self._string()
            attrs[name] = self._attribute()
        return Node(tag, attrs, None if size % 2 else self._content(depth))

    def _content(self, depth: int) -> bytes | str | list[Node] | None:
        tag = self._number(1)
        if tag in (_LIST_EMPTY, _LIST_8, _LIST_16):
            return [self.node(depth + 1) for _ in range(self._list_size(tag))]
        if tag in _BINARY_SIZES:
            return self._raw(self._binary_size(tag))
        value = self._value(tag)
        return str(value)

    def _string(self) -> str:
        value = self._value(self._number(1))
        if not isinstance(value, str):
            raise BinaryError("an address where a name belongs")
        return value

    def _attribute(self) -> JID | str:
        return self._value(self._number(1))

    def _value(self, tag: int) -> JID | str:
        if tag in _BINARY_SIZES:
            return self._raw(self._binary_size(tag)).decode()
        if _DICTIONARY_0 <= tag <= _DICTIONARY_3:
            return self._token(self._tokens.double[tag - _DICTIONARY_0], self._number(1))
        if tag in _ALPHABETS:
            return self._packed(_ALPHABETS[tag])
        if tag == _JID_PAIR:
            head = self._number(1)
            user = "" if head == _LIST_EMPTY else str(self._value(head))
            return JID(user, self._string())
        if tag == _DEVICE_JID:
            domain, device = self._number(1), self._number(1)
            return JID(self._string(), _DOMAIN_NAMES.get(domain, "s.whatsapp.net"), device)
        if tag == _FACEBOOK_JID:
            user, device = self._string(), self._number(2)
            return JID(user, self._string(), device)
        if tag == _INTEROP_JID:
            user, device, _integrator = self._string(), self._number(2), self._number(2)
            return JID(user, self._string(), device)
        return self._token(self._tokens.single, tag)

    @staticmethod
    def _token(table: tuple[str, ...], index: int) -> str:
        if index >= len(table) or not table[index]:
            raise BinaryError(f"no token {index}")
        return table[index]

    def _packed(self, alphabet: str) -> str:
        head = self._number(1)
        codes = [code for byte in self._raw(head & 127) for code in (byte >> 4, byte & 15)]
        if head & 128 and (not codes or codes.pop() != _PADDING):
            raise BinaryError("packed string without its padding")
        if any(code >= len(alphabet) for code in codes):
            raise BinaryError("packed string with a letter that does not exist")
        return "".join(alphabet[code] for code in codes)

    def _list_size(self, tag: int) -> int:
        if tag == _LIST_EMPTY:
            return 0
        if tag not in (_LIST_8, _LIST_16):
            raise BinaryError(f"{tag} does not start a list")
        return self._number(1 if tag == _LIST_8 else 2)

    def _binary_size(self, tag: int) -> int:
        size = self._number(_BINARY_SIZES[tag])
        return size & 0xFFFFF if tag == _BINARY_20 else size

    def _number(self, size: int) -> int:
        return int.from_bytes(self._raw(size), "big")

    def _raw(self, size: int) -> bytes:
        chunk = self._data[self.position : self.position + size]
        if len(chunk) != size:
            raise BinaryError("stanza is cut short")
        self.position += size
        return chunk
