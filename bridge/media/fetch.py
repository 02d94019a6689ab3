"""A `media_url` becomes a file on disk, whoever wrote the URL and whoever answers it.

The URL comes from a user of one tenant, and the machine that fetches it stands inside a network
that the user does not. So the bridge asks nobody but public hosts:

* only https, on port 443, with the certificate of the name in the URL;
* the name is resolved here and the connection goes to the very address that was judged, so an
  answer of DNS that changes in between changes nothing;
* a redirect is a new URL, judged anew, three times at most;
* proxies of the environment are not used: they would resolve the name themselves.

And it believes nothing that is answered: size is counted while it streams to disk, time is limited
in all and between two reads, and a compressed answer is refused, for its size is unknown.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote

import anyio
import certifi
import httpcore
import httpx
from anyio import to_thread

from bridge.media.hosts import (
    FetchRules,
    JudgingBackend,
    MediaTooSlow,
    MediaUnreachable,
    MediaUrlRefused,
    judged_redirect,
    judged_url,
)
from bridge.media.limits import MediaTooLarge
from bridge.media.mime import bare_type
from bridge.media.sink import Sink

REDIRECTS = frozenset({301, 302, 303, 307, 308})
WORTH_A_RETRY = frozenset({408, 425, 429, 500, 502, 503, 504})
WRITE_BYTES = 1024 * 1024
AT_ONCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A file that was fetched.

    Attributes:
        path: exists until the context is left.
        size_bytes: as counted.
        sha256: hexadecimal, of the bytes on disk.
        declared: the type that the server claims, bare; not to be trusted.
        suggested_name: a file name from the header or the URL, raw; `bridge.media.names` makes it
            safe.
    """

    path: Path
    size_bytes: int
    sha256: str
    declared: str | None
    suggested_name: str | None


class Fetcher:
    """Fetches files, a few at a time; the others wait in line."""

    def __init__(self, folder: Path, *, rules: FetchRules | None = None) -> None:
        self._folder = folder
        self._rules = rules or FetchRules()
        self._tls = self._rules.tls or ssl.create_default_context(cafile=certifi.where())
        self._places = anyio.Semaphore(AT_ONCE)

    @asynccontextmanager
    async def fetch(self, url: str, *, limit_bytes: int) -> AsyncIterator[Fetched]:
        """Fetch a file; it is deleted when the context is left.

        :raises MediaUrlRefused: if the URL or a redirect leads where the bridge does not ask.
        :raises MediaTooLarge: if there are more bytes than the limit, declared or sent.
        :raises MediaUnreachable: if no file is answered; retryable if that may change.
        :raises MediaTooSlow: if a time limit ends.
        :raises NoSpace: if the disk is full.
        """
        sink = await to_thread.run_sync(Sink, self._folder)
        try:
            async with self._places:
                answer = await self._downloaded(url, sink, limit_bytes)
            yield Fetched(
                path=sink.path,
                size_bytes=sink.size_bytes,
                sha256=sink.sha256,
                declared=answer.declared,
                suggested_name=answer.suggested_name,
            )
        finally:
            sink.discard()

    async def _downloaded(self, url: str, sink: Sink, limit_bytes: int) -> _Answer:
        try:
            with anyio.fail_after(self._rules.total_timeout_s):
                answer = await self._download(url, sink, limit_bytes)
                await to_thread.run_sync(sink.finish)
        except TimeoutError:
            raise MediaTooSlow from None
        return answer

    async def _download(self, url: str, sink: Sink, limit_bytes: int) -> _Answer:
        target = judged_url(url, self._rules)
        for _ in range(self._rules.max_redirects + 1):
            async with self._asked(target) as response:
                if response.status in REDIRECTS:
                    target = judged_redirect(target, _header(response, b"location"), self._rules)
                    continue
                _check_head(response, limit_bytes)
                await _stream(response, sink, limit_bytes)
                return _Answer.of(target, response)
        raise MediaUrlRefused(
            f"The media URL redirects more than {self._rules.max_redirects} times."
        )

    @asynccontextmanager
    async def _asked(self, url: httpx.URL) -> AsyncIterator[httpcore.Response]:
        """The answer's head; its body can be read inside. What the network raises is translated."""
        rules = self._rules
        try:
            async with AsyncExitStack() as stack:
                pool = await stack.enter_async_context(
                    httpcore.AsyncConnectionPool(
                        ssl_context=self._tls,
                        max_connections=1,
                        network_backend=JudgingBackend(rules),
                    )
                )
                response = await stack.enter_async_context(
                    pool.stream(
                        b"GET",
                        httpcore.URL(
                            scheme=url.raw_scheme,
                            host=url.raw_host,
                            port=rules.port,
                            target=url.raw_path,
                        ),
                        headers=[
                            (b"Host", url.netloc),
                            (b"Accept", b"*/*"),
                            (b"Accept-Encoding", b"identity"),
                            (b"User-Agent", b"wabridge"),
                        ],
                        extensions={
                            "timeout": {
                                "connect": rules.connect_timeout_s,
                                "read": rules.idle_timeout_s,
                                "write": rules.idle_timeout_s,
                            }
                        },
                    )
                )
                yield response
        except (httpcore.ReadTimeout, httpcore.WriteTimeout, httpcore.ConnectTimeout):
            raise MediaTooSlow from None
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            _raise_unreachable(error)


def _raise_unreachable(error: Exception) -> NoReturn:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise MediaUnreachable(
                "The certificate of the media URL's server is not valid."
            ) from error
        cause = cause.__cause__ or cause.__context__
    raise MediaUnreachable(
        "The server of the media URL broke off, or could not be reached.", retryable=True
    ) from error


def _check_head(response: httpcore.Response, limit_bytes: int) -> None:
    if response.status != 200:
        raise MediaUnreachable(
            f"The server of the media URL answered with status {response.status}.",
            retryable=response.status in WORTH_A_RETRY,
        )
    if (_header(response, b"content-encoding") or "identity").strip().lower() != "identity":
        raise MediaUrlRefused(
            "The server of the media URL compresses its answer, so that its size is unknown; "
            "serve the file without Content-Encoding."
        )
    declared = _header(response, b"content-length")
    # Up to 18 digits: no file has more, and no attacker should choose the size of our integers.
    if declared is None or not declared.isdecimal():
        return
    if len(declared) > 18 or int(declared) > limit_bytes:
        raise MediaTooLarge(limit_bytes)


async def _stream(response: httpcore.Response, sink: Sink, limit_bytes: int) -> None:
    """Body to disk, a megabyte at a time, so that memory does not depend on the file."""
    waiting = bytearray()
    received = 0
    async for chunk in response.aiter_stream():
        received += len(chunk)
        if received > limit_bytes:
            raise MediaTooLarge(limit_bytes)
        waiting += chunk
        if len(waiting) >= WRITE_BYTES:
            await to_thread.run_sync(sink.write, waiting)
            waiting = bytearray()
    await to_thread.run_sync(sink.write, waiting)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the last answer said of the file beside its bytes."""

    declared: str | None
    suggested_name: str | None

    @classmethod
    def of(cls, url: httpx.URL, response: httpcore.Response) -> _Answer:
        """Read the head."""
        name = _name_in(_header(response, b"content-disposition"))
        return cls(
            declared=bare_type(_header(response, b"content-type")),
            suggested_name=name or unquote(url.path.rpartition("/")[2]) or None,
        )


def _name_in(disposition: str | None) -> str | None:
    if disposition is None:
        return None
    message = Message()
    try:
        message["Content-Disposition"] = disposition
        return message.get_filename()
    except (LookupError, TypeError, ValueError):  # the parser trusts its mail
        return None


def _header(response: httpcore.Response, name: bytes) -> str | None:
    for key, value in response.headers:
        if key.lower() == name:
            try:
                return value.decode()
            except UnicodeDecodeError:
                return value.decode("latin-1")
    return None
