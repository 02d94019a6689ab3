"""The ports that clients reach: an HTTP proxy that never forwards, and the same hosts directly.

A client is told to use the first port as its proxy. ``CONNECT any-host:443`` is accepted, TLS ends
right here, and inside the tunnel are HTTP requests (media) and WebSocket upgrades (the chat). The
second port speaks TLS at once, for clients that take a WebSocket URL instead of a proxy.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable

from loguru import logger

from bridge.sandbox.whatsapp.network.http import (
    MAX_HEAD_BYTES,
    HttpError,
    Request,
    Response,
    read_body,
    read_head,
)
from bridge.sandbox.whatsapp.network.websocket import WebSocket, WebSocketError, accept_key

_GONE = (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError, TimeoutError)


class Listener:
    """Serves until it is stopped.

    Attributes:
        refusing: when set, new connections are dropped at once (an outage).
        silent: when set, new connections are accepted and never answered.
    """

    def __init__(
        self,
        tls: ssl.SSLContext,
        *,
        on_websocket: Callable[[WebSocket], Awaitable[None]],
        on_http: Callable[[Request], Response],
    ) -> None:
        self.refusing = False
        self.silent = False
        self.proxy_port = 0
        self.direct_port = 0
        self._tls = tls
        self._on_websocket, self._on_http = on_websocket, on_http
        self._servers: list[asyncio.Server] = []
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._silenced: set[asyncio.StreamWriter] = set()

    async def start(self, proxy_port: int = 0) -> None:
        """Open both ports on the loopback interface; 0 is any free one."""
        proxy = await asyncio.start_server(
            self._serve_proxy, "127.0.0.1", proxy_port, limit=MAX_HEAD_BYTES
        )
        direct = await asyncio.start_server(
            self._serve_direct, "127.0.0.1", 0, limit=MAX_HEAD_BYTES, ssl=self._tls
        )
        self._servers = [proxy, direct]
        self.proxy_port, self.direct_port = (
            server.sockets[0].getsockname()[1] for server in self._servers
        )

    async def stop(self) -> None:
        """Close the ports and every connection."""
        for server in self._servers:
            server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def speak_again(self) -> None:
        """End `silent`: connections that were never answered are cut, so that clients retry."""
        self.silent = False
        for writer in self._silenced:
            writer.transport.abort()

    async def _serve_proxy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await self._owned(self._tunnel(reader, writer), writer)

    async def _serve_direct(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await self._owned(self._requests(reader, writer), writer)

    async def _owned(self, serving: Awaitable[None], writer: asyncio.StreamWriter) -> None:
        """Keep the connection's task known, and end it without noise."""
        task = asyncio.current_task()
        if task is not None:
            self._connections[task] = writer
            task.add_done_callback(lambda done: self._connections.pop(done, None))
        try:
            await serving
        except _GONE:
            pass
        except (HttpError, WebSocketError) as error:
            logger.debug("a client was cut off", problem=str(error))
        except asyncio.CancelledError:
            # swallowed: asyncio's server reports the end of this task as an error otherwise
            pass
        finally:
            self._silenced.discard(writer)
            writer.close()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            return
        request = await read_head(reader)
        if request.method != "CONNECT":
            writer.write(Response(405).head())
            return
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await writer.start_tls(self._tls)
        await self._requests(reader, writer)

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            return
        if self.silent:
            self._silenced.add(writer)
            await reader.read()
            return
        while True:
            request = await read_head(reader)
            if request.headers.get("upgrade", "").lower() == "websocket":
                key = request.headers.get("sec-websocket-key", "")
                headers = {
                    "Upgrade": "websocket",
                    "Connection": "Upgrade",
                    "Sec-WebSocket-Accept": accept_key(key),
                }
                lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
                writer.write(f"HTTP/1.1 101 Switching Protocols\r\n{lines}\r\n".encode())
                await self._on_websocket(WebSocket(reader, writer))
                return
            if request.headers.get("expect", "").lower() == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.body = await read_body(reader, request)
            response = self._on_http(request)
            writer.write(response.head() + response.body)
            await writer.drain()
