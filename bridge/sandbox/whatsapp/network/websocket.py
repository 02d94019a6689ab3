"""The server's side of one WebSocket, as a stream of frames with a 3-byte length."""

from __future__ import annotations

import asyncio
import base64
import hashlib

_ACCEPT_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_MAX_MESSAGE_BYTES = 1 << 26


class WebSocketError(ValueError):
    """The client broke RFC 6455."""


def accept_key(client_key: str) -> str:
    """Value of `Sec-WebSocket-Accept`."""
    digest = hashlib.sha1(client_key.encode() + _ACCEPT_GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


class WebSocket:
    """Reads and writes length-prefixed frames. Messages carry any part of that stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._buffer = bytearray()

    async def read_exactly(self, size: int) -> bytes | None:
        """The next bytes of the stream; ``None`` when the client closed the socket."""
        while len(self._buffer) < size:
            message = await self._read_message()
            if message is None:
                return None
            self._buffer += message
        out = bytes(self._buffer[:size])
        del self._buffer[:size]
        return out

    async def read_frame(self) -> bytes | None:
        """The next frame without its length; ``None`` when the client closed the socket."""
        head = await self.read_exactly(3)
        return None if head is None else await self.read_exactly(int.from_bytes(head, "big"))

    def write_frame(self, frame: bytes) -> None:
        """Send one frame (buffered; see `drain`)."""
        self._write_message(_BINARY, len(frame).to_bytes(3, "big") + frame)

    async def drain(self) -> None:
        """Wait until the client has taken most of what was written."""
        await self._writer.drain()

    def close(self, code: int = 1000) -> None:
        """Close politely: a close frame, then the connection."""
        if not self._writer.is_closing():
            self._write_message(_CLOSE, code.to_bytes(2, "big"))
            self._writer.close()

    def abort(self) -> None:
        """Cut the connection without a word, as a network fault does."""
        self._writer.transport.abort()

    async def _read_message(self) -> bytes | None:
        message = bytearray()
        while True:
            first, second = await self._reader.readexactly(2)
            opcode, size = first & 15, second & 127
            if not second & 0x80:
                raise WebSocketError("a client must mask its messages")
            if size >= 126:
                extended = await self._reader.readexactly(2 if size == 126 else 8)
                size = int.from_bytes(extended, "big")
            if size + len(message) > _MAX_MESSAGE_BYTES:
                raise WebSocketError("message is too large")
            mask = await self._reader.readexactly(4)
            payload = _unmask(await self._reader.readexactly(size), mask)
            if opcode == _CLOSE:
                self._write_message(_CLOSE, payload[:2])
                return None
            if opcode == _PING:
                self._write_message(_PONG, payload)
            elif opcode in (_CONTINUATION, _TEXT, _BINARY):
                message += payload
                if first & 0x80:
                    return bytes(message)
            elif opcode != _PONG:
                raise WebSocketError(f"unknown opcode {opcode}")

    def _write_message(self, opcode: int, payload: bytes) -> None:
        if self._writer.is_closing():
            return
        size = len(payload)
        head = bytes([0x80 | opcode])
        if size < 126:
            head += bytes([size])
        elif size < 1 << 16:
            head += b"\x7e" + size.to_bytes(2, "big")
        else:
            head += b"\x7f" + size.to_bytes(8, "big")
        self._writer.write(head + payload)


def _unmask(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
