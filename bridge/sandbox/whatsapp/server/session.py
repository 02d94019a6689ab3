"""One client's connection after the Noise handshake."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from loguru import logger

from bridge.sandbox.whatsapp.codec.binary import BinaryCodec
from bridge.sandbox.whatsapp.codec.nodes import Attribute, Node
from bridge.sandbox.whatsapp.codec.protobuf import Fields
from bridge.sandbox.whatsapp.crypto.noise import Transport
from bridge.sandbox.whatsapp.network.websocket import WebSocket
from bridge.sandbox.whatsapp.server.records import Device

# A client handles stanzas from a queue which it abandons with the socket, so closing at once can
# make it miss the very stanza that explains the end.
_LINGER_S = 0.1


@dataclass(eq=False)
class Session:
    """A connection.

    Attributes:
        noise_static: the client's key.
        registration: what an unpaired client said about itself; ``None`` at a login.
        number, device_id: who it says it is at a login.
        device: the logged-in device; ``None`` while it is unpaired.
        delay_s: every stanza to the client waits so long (fault `slow`).
        deaf: nothing is answered (fault `deaf`).
    """

    socket: WebSocket
    transport: Transport
    codec: BinaryCodec
    noise_static: bytes
    registration: Fields | None
    number: str | None = None
    device_id: int = 0
    device: Device | None = None
    delay_s: float = 0.0
    deaf: bool = False
    _outbox: deque[Node] = field(default_factory=deque)

    def deliver(self, node: Node) -> None:
        """Send a stanza, in order, after the delay if there is one."""
        if self.deaf:
            return
        if not self.delay_s and not self._outbox:
            self._write(node)
            return
        self._outbox.append(node)
        # timers of one delay fire in order; each takes whatever is first, so that order is kept
        asyncio.get_running_loop().call_later(self.delay_s, self._write_next)

    async def receive(self) -> Node | None:
        """The next stanza; ``None`` when the client closed the connection.

        :raises NoiseError: if a frame does not decrypt.
        :raises BinaryError: if a frame is not a stanza.
        """
        await self.socket.drain()
        while True:
            frame = await self.socket.read_frame()
            if frame is None:
                return None
            node = self.codec.decode(self.transport.decrypt(frame))
            logger.trace("> {} {}", self.number, node)
            if not self.deaf:
                return node

    def end_stream(self, code: int | None, *children: Node) -> None:
        """Say why, then close."""
        self.deliver(Node("stream:error", {"code": code}, list(children) or None))
        self.close_soon()

    def refuse_login(self, reason: int, **attrs: Attribute) -> None:
        """Answer a login with a failure instead of success, then close."""
        self.deliver(Node("failure", {"reason": reason, "location": "sandbox", **attrs}))
        self.close_soon()

    def close_soon(self) -> None:
        """Close when the client has had time to read the last stanza."""
        delay_s = self.delay_s + _LINGER_S
        asyncio.get_running_loop().call_later(delay_s, self.socket.close)

    def _write_next(self) -> None:
        if self._outbox:
            self._write(self._outbox.popleft())

    def _write(self, node: Node) -> None:
        if self.deaf:
            return
        logger.trace("< {} {}", self.number, node)
        self.socket.write_frame(self.transport.encrypt(self.codec.encode(node)))
