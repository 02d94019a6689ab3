"""Whom a `media_url` may make the bridge ask: its rules, and the connection that keeps them.

Apart from the download, so that everything that decides over a connection is on one page.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

import anyio
import httpcore
import httpx

from bridge.errors import CommandError
from bridge.media.addresses import IPAddress, is_public, parsed_address

ADDRESSES_MAX = 4
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""A host and a port become addresses in text form; `OSError` if there are none."""


class MediaUrlRefused(CommandError):
    """The URL, or one that it redirects to, may not be asked."""

    code = "media_url_refused"


class MediaUnreachable(CommandError):
    """The server did not answer, or not with the file."""

    code = "media_unreachable"


class MediaTooSlow(CommandError):
    """The server took longer than the limit, in all or between two pieces."""

    code = "media_too_slow"

    def __init__(self) -> None:
        super().__init__("The server of the media URL is too slow.", retryable=True)


async def resolve(host: str, port: int) -> Sequence[str]:
    """Ask the machine's resolver."""
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [address[4][0] for address in found]


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRules:
    """What may be asked, and for how long.

    Attributes:
        resolve: turns a name into addresses.
        is_allowed: judges each address; tests let a loopback one pass.
        port: the only port.
        tls: trusts whom; None trusts the authorities that browsers trust.
        total_timeout_s: from the first look-up to the last byte, redirects included.
        idle_timeout_s: between two pieces.
    """

    resolve: Resolver = resolve
    is_allowed: Callable[[IPAddress], bool] = is_public
    port: int = 443
    tls: ssl.SSLContext | None = None
    max_redirects: int = 3
    max_url_chars: int = 4096
    connect_timeout_s: float = 10.0
    idle_timeout_s: float = 20.0
    total_timeout_s: float = 300.0


def judged_url(text: str, rules: FetchRules) -> httpx.URL:
    """The URL taken apart once: what is judged here is what is connected to.

    :raises MediaUrlRefused: if the bridge does not ask such a URL. Its host is judged later, by
        address.
    """
    if len(text) > rules.max_url_chars:
        raise MediaUrlRefused(f"The media URL is longer than {rules.max_url_chars} characters.")
    try:
        url = httpx.URL(text)
        port = url.port
    except (httpx.InvalidURL, UnicodeError, ValueError):
        raise MediaUrlRefused("The media URL cannot be understood.") from None
    return _judged(url, port, rules)


def judged_redirect(before: httpx.URL, location: str | None, rules: FetchRules) -> httpx.URL:
    """The URL that a redirect leads to, judged like the first.

    :raises MediaUnreachable: if it leads nowhere.
    :raises MediaUrlRefused: if it leads where the bridge does not ask.
    """
    if location is None:
        raise MediaUnreachable("The server of the media URL redirects to nowhere.")
    try:
        url = before.join(location)
        port = url.port
    except (httpx.InvalidURL, UnicodeError, ValueError):
        raise MediaUrlRefused("The media URL redirects to what cannot be understood.") from None
    if len(str(url)) > rules.max_url_chars:
        raise MediaUrlRefused("The media URL redirects to one that is too long.")
    return _judged(url, port, rules)


def _judged(url: httpx.URL, port: int | None, rules: FetchRules) -> httpx.URL:
    if url.scheme != "https":
        raise MediaUrlRefused("The media URL, and all it redirects to, must start with https.")
    if url.userinfo:
        raise MediaUrlRefused("The media URL must not hold a user name or password.")
    if not url.raw_host:
        raise MediaUrlRefused("The media URL names no host.")
    if (port or 443) != rules.port:
        raise MediaUrlRefused(f"The media URL must use port {rules.port}.")
    return url


class JudgingBackend(httpcore.AsyncNetworkBackend):
    """Connects to an address that was judged, never to a name."""

    def __init__(self, rules: FetchRules) -> None:
        self._rules = rules
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """See the base class; raises what `judged_url` does, too."""
        addresses = await self._judged_addresses(host, port)
        for address in addresses[:-1]:
            try:
                return await self._network.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._network.connect_tcp(
            str(addresses[-1]), port, timeout, local_address, socket_options
        )

    async def _judged_addresses(self, host: str, port: int) -> list[IPAddress]:
        try:
            with anyio.fail_after(self._rules.connect_timeout_s):
                answers = await self._rules.resolve(host, port)
        except (OSError, UnicodeError):  # among them TimeoutError
            raise MediaUnreachable(
                "The host of the media URL has no address.", retryable=True
            ) from None
        addresses = [address for text in answers if (address := parsed_address(text)) is not None]
        allowed = [address for address in addresses if self._rules.is_allowed(address)]
        if not allowed:
            raise MediaUrlRefused("The host of the media URL is not on the public internet.")
        return allowed[:ADDRESSES_MAX]
