"""An HTTP CONNECT proxy on 127.0.0.1 for engines in strict mode: it sees that bytes have left.

The journal of a killed engine says that a message was released, not that it reached the socket.
This relay outlives the engine and sees everything it wrote. It cannot read it (TLS goes through),
but it counts TLS records: did one of the message's size come after the release?

A connection is closed gently: closing a socket with unread input resets it, and the other side then
throws away what it has not read yet. So the writing half is closed first, and the rest is read.
Only holders of an account's password get through; it is made for each session.
"""

from __future__ import annotations

import base64
import errno
import fcntl
import secrets
import socket
import struct
import termios
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

import anyio
import anyio.abc
from loguru import logger

from bridge.ids import AccountId, WhatsAppMessageId

# whatsmeow socket/constants.go; media go to other hosts
_CHAT: Final = "web.whatsapp.com:443"
_APPLICATION_DATA = 23
_HEAD_LIMIT = 8192
_CHUNK = 1 << 16
CONNECT_TIMEOUT_S = 20.0
HEAD_TIMEOUT_S = 10.0
CONFIRM_TIMEOUT_S = 3.0
ANSWER_TIMEOUT_S = 1.0
SETTLE_TIMEOUT_S = 5.0
LOOK_EVERY_S = 0.02
PART_TIMEOUT_S = 60.0
REMEMBERED = 8
# Longer stanzas are cut into several records by TLS.
_ONE_RECORD_BYTES = 1000
_GONE = (
    anyio.EndOfStream,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    OSError,
    TimeoutError,
)


class Meter:
    """Sizes of the TLS records that went through one connection."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._left = 0
        self._kind = 0
        self._size = 0
        self.records: list[int] = []

    def feed(self, data: bytes) -> None:
        """Bytes that were written, however they were cut."""
        view = memoryview(data)
        while view:
            if self._left:
                taken = min(self._left, len(view))
                self._left -= taken
                view = view[taken:]
            else:
                missing = 5 - len(self._head)
                self._head += view[:missing]
                view = view[missing:]
                if len(self._head) < 5:
                    return
                self._kind = self._head[0]
                self._size = self._left = int.from_bytes(self._head[3:5], "big")
                self._head.clear()
            if not self._left and self._kind == _APPLICATION_DATA:
                self.records.append(self._size)


@dataclass(slots=True)
class _Leaving:
    """A message that was released, and where its bytes would show up."""

    id: WhatsAppMessageId
    least_bytes: int
    most_bytes: int
    tunnel: Tunnel | None
    mark: int

    def written(self) -> bool | None:
        """Whether it reached the other side; None if that cannot be told."""
        tunnel = self.tunnel
        if tunnel is None:
            return None
        since = tunnel.meter.records[self.mark :]
        if self.least_bytes < _ONE_RECORD_BYTES:
            seen = any(self.least_bytes <= size <= self.most_bytes for size in since)
        else:
            seen = sum(since) >= self.least_bytes
        if (seen and not tunnel.arrived) or (not seen and tunnel.replaced):
            return None  # in its next connection whatsmeow writes it again
        return seen


@dataclass(slots=True, eq=False)
class Tunnel:
    """One connection of an engine.

    Attributes:
        over: nothing more comes, and everything that came was passed on.
        arrived: everything that was passed on reached the other side.
        replaced: there is a newer one.
    """

    meter: Meter = field(default_factory=Meter)
    over: anyio.Event = field(default_factory=anyio.Event)
    arrived: bool = False
    replaced: bool = False


class Line:
    """One account's way through the relay. Implements `bridge.engine.committer.Watches`."""

    def __init__(self, account: AccountId, password: str) -> None:
        self.account = account
        self.password = password
        self._tunnels: list[Tunnel] = []
        self._leaving: deque[_Leaving] = deque(maxlen=REMEMBERED)

    def opened(self, tunnel: Tunnel) -> None:
        """The engine connected to WhatsApp."""
        for each in self._tunnels:
            each.replaced = True
        self._tunnels = [*(each for each in self._tunnels if not each.over.is_set()), tunnel]

    def leaving(self, id_: WhatsAppMessageId, least_bytes: int, most_bytes: int) -> None:
        """A message of about this size is written from now on."""
        tunnel = self._tunnels[-1] if self._tunnels else None
        mark = len(tunnel.meter.records) if tunnel is not None else 0
        self._leaving.append(_Leaving(id_, least_bytes, most_bytes, tunnel, mark))

    async def written(self) -> dict[WhatsAppMessageId, bool]:
        """Of the last messages, whether they were written; the engine is dead. Bounded."""
        with anyio.move_on_after(SETTLE_TIMEOUT_S):
            for tunnel in list(self._tunnels):
                await tunnel.over.wait()
        verdicts = ((each.id, each.written()) for each in self._leaving)
        return {id_: verdict for id_, verdict in verdicts if verdict is not None}


class Relay:
    """Serves the engines of this host until its task is cancelled."""

    def __init__(self, upstream: str = "") -> None:
        """Prepare.

        Args:
            upstream: URL of the HTTP proxy that leads out; empty = straight. Through one of
                another kind engines go by themselves, and nobody sees what they wrote.
        """
        self._upstream = urlsplit(upstream) if upstream else None
        self._usable = self._upstream is None or (
            self._upstream.scheme == "http" and bool(self._upstream.hostname)
        )
        if not self._usable:
            logger.warning(
                "Strict mode cannot see through this proxy", scheme=urlsplit(upstream).scheme
            )
        self._lines: dict[AccountId, Line] = {}
        self._port = 0

    def line(self, account: AccountId) -> Line | None:
        """The way that an account had last."""
        return self._lines.get(account)

    def new_line(self, account: AccountId) -> tuple[Line | None, str]:
        """A way for a session of an account, and the URL by which an engine takes it."""
        if not self._usable:
            return None, ""
        line = self._lines[account] = Line(account, secrets.token_urlsafe(24))
        return line, f"http://{account}:{line.password}@127.0.0.1:{self._port}"

    def forget(self, account: AccountId) -> None:
        """Nobody asks about this account any more."""
        self._lines.pop(account, None)

    async def run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Serve; started when the port is open."""
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - not Django
        self._port = int(port)
        task_status.started()
        async with listener:
            await listener.serve(self._serve)

    async def _serve(self, engine: anyio.abc.ByteStream) -> None:
        async with engine:
            with suppress(*_GONE):
                with anyio.fail_after(HEAD_TIMEOUT_S):
                    head, rest = await _head_of(engine)
                words = head.split("\r\n", 1)[0].split(" ")
                line = self._authorised(head)
                if line is None or len(words) != 3 or words[0] != "CONNECT":
                    await engine.send(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
                    return
                with anyio.fail_after(CONNECT_TIMEOUT_S):
                    upstream = await self._connect(words[1])
                await engine.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
                tunnel = Tunnel()
                if words[1] == _CHAT:
                    line.opened(tunnel)
                try:
                    await _pass(engine, upstream, tunnel, rest)
                finally:
                    tunnel.over.set()

    def _authorised(self, head: str) -> Line | None:
        for each in head.split("\r\n"):
            name, _, value = each.partition(":")
            if name.lower() == "proxy-authorization" and value.strip().startswith("Basic "):
                with suppress(ValueError):
                    pair = base64.b64decode(value.strip()[6:], validate=True).decode()
                    account, _, password = pair.partition(":")
                    line = self._lines.get(AccountId(account))
                    if line is not None and secrets.compare_digest(
                        line.password.encode(), password.encode()
                    ):
                        return line
        return None

    async def _connect(self, target: str) -> anyio.abc.SocketStream:
        """A connection to whom the engine wants to reach.

        :raises OSError: if there is none.
        """
        proxy = self._upstream
        if proxy is None:
            host, _, port = target.rpartition(":")
            return await anyio.connect_tcp(host.strip("[]"), int(port))
        stream = await anyio.connect_tcp(proxy.hostname or "", proxy.port or 80)
        try:
            authorisation = ""
            if proxy.username is not None:
                pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
                encoded = base64.b64encode(pair.encode()).decode()
                authorisation = f"Proxy-Authorization: Basic {encoded}\r\n"
            request = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorisation}\r\n"
            await stream.send(request.encode())
            # the other side of a TLS connection does not speak first: nothing follows the head
            head, _ = await _head_of(stream)
            if not head.split(" ", 2)[1:2] == ["200"]:
                raise ConnectionRefusedError(errno.ECONNREFUSED, "the proxy refused")  # noqa: TRY301
        except BaseException:
            await anyio.aclose_forcefully(stream)
            raise
        return stream


async def _head_of(stream: anyio.abc.ByteStream) -> tuple[str, bytes]:
    """The head of an HTTP message, and what came behind it.

    :raises OSError: if it has no end.
    """
    data = b""
    while b"\r\n\r\n" not in data:
        if len(data) > _HEAD_LIMIT:
            raise OSError(errno.EMSGSIZE, "the head is too long")
        data += await stream.receive(_HEAD_LIMIT)
    head, _, rest = data.partition(b"\r\n\r\n")
    return head.decode("latin-1"), rest


async def _pass(  # noqa: C901 - two short tasks
    engine: anyio.abc.ByteStream, upstream: anyio.abc.SocketStream, tunnel: Tunnel, first: bytes
) -> None:
    """Pass bytes both ways until both sides are at their end."""
    ended = False

    async def outwards() -> None:
        nonlocal ended
        try:
            data = first
            while True:
                if data:
                    tunnel.meter.feed(data)
                    await upstream.send(data)
                data = await engine.receive(_CHUNK)
        except _GONE:
            ended = True
        with suppress(*_GONE):
            await upstream.send_eof()
        tunnel.arrived = await _arrived(upstream)
        await anyio.sleep(ANSWER_TIMEOUT_S)  # its own end says more, and comes at once mostly
        tunnel.over.set()
        # it may take as long as it needs to read all that: closing before would undo it
        await anyio.sleep(PART_TIMEOUT_S)
        tasks.cancel_scope.cancel()

    async def inwards() -> None:
        gone = False
        try:
            while True:
                data = await upstream.receive(_CHUNK)
                if not gone:
                    try:
                        await engine.send(data)
                    except _GONE:
                        gone = True
        except anyio.EndOfStream:
            # ended first, nobody knows what it has read; afterwards, it has read everything
            tunnel.arrived = ended
        except _GONE:
            tunnel.arrived = False
        tasks.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(outwards, name="relay out")
            tasks.start_soon(inwards, name="relay in")
    finally:
        await anyio.aclose_forcefully(upstream)


async def _arrived(stream: anyio.abc.SocketStream) -> bool:
    """Whether the other side's kernel confirms everything, its end included. Bounded."""
    with anyio.move_on_after(CONFIRM_TIMEOUT_S):
        while True:
            if _unsent_bytes(stream) == 0:
                await anyio.sleep(LOOK_EVERY_S)  # what the loop still held is in the kernel by now
                if _unsent_bytes(stream) == 0:
                    return True
            await anyio.sleep(LOOK_EVERY_S)
    return False


def _unsent_bytes(stream: anyio.abc.SocketStream) -> int:
    """How much the other side's kernel has not confirmed; -1 if the connection broke."""
    raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)  # noqa: S610 - not Django
    try:
        if raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return -1
        return int(struct.unpack("i", fcntl.ioctl(raw.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0])
    except OSError:
        return -1
