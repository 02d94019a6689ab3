"""HTTP/1.1 as far as a proxy, a media host and a WebSocket upgrade need it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

MAX_HEAD_BYTES = 1 << 16
_MAX_BODY_BYTES = 1 << 28


class HttpError(ValueError):
    """Not a request that can be answered; the connection is closed."""


@dataclass(slots=True)
class Request:
    """One request; header names in lower case, the last value of a query parameter."""

    method: str
    host: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""


@dataclass(slots=True)
class Response:
    """One answer."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    def head(self) -> bytes:
        """Status line and headers, with the blank line."""
        lines = [f"HTTP/1.1 {self.status} x", f"Content-Length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join(lines).encode() + b"\r\n\r\n"


async def read_head(reader: asyncio.StreamReader) -> Request:
    """Read a request without its body.

    :raises HttpError: if it is not HTTP.
    :raises asyncio.IncompleteReadError: if the client went away.
    """
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError as error:
        raise HttpError("request head is too long") from error
    lines = raw.decode("latin-1").split("\r\n")
    try:
        method, target, _version = lines[0].split(" ", 2)
    except ValueError as error:
        raise HttpError("not an HTTP request") from error
    pairs = (line.partition(":") for line in lines[1:] if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    url = urlsplit(target)
    query = {name: values[-1] for name, values in parse_qs(url.query).items()}
    return Request(method, headers.get("host", ""), url.path, query, headers)


async def read_body(reader: asyncio.StreamReader, request: Request) -> bytes:
    """Read the body that belongs to a head.

    :raises HttpError: if its length is missing, wrong or too large.
    """
    try:
        if request.headers.get("transfer-encoding", "").lower() == "chunked":
            return await _read_chunks(reader)
        size = int(request.headers.get("content-length", "0"))
    except ValueError as error:
        raise HttpError("the length of the body is not a number") from error
    if not 0 <= size <= _MAX_BODY_BYTES:
        raise HttpError("the body is too large")
    return await reader.readexactly(size)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size := int((await reader.readline()).split(b";")[0], 16):
        if len(body) + size > _MAX_BODY_BYTES:
            raise HttpError("the body is too large")
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readline()
    return bytes(body)
