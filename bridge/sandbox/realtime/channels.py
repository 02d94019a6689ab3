"""Who listens to what: sockets, the channels they joined, presence."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import anyio
from aiohttp import web

from bridge.sandbox.keys import Claims
from bridge.sandbox.realtime import frames

MAX_UNSENT = 10_000
"""Messages that may wait for a slow client before it is disconnected."""

TOPIC_PREFIX = "realtime:"


@dataclass(frozen=True, slots=True)
class Subscription:
    """One `postgres_changes` binding of a channel."""

    id: int
    event: str
    schema: str
    table: str
    filter: str
    columns: frozenset[str]


@dataclass(eq=False, slots=True)
class Socket:
    """One WebSocket, its outgoing queue, and the channels it joined."""

    connection: web.WebSocketResponse
    transport: asyncio.Transport | None
    version: int
    claims: Claims
    channels: dict[str, Channel] = field(default_factory=dict)
    _unsent: deque[str | bytes] = field(default_factory=deque)
    _wake: anyio.Event = field(default_factory=anyio.Event)
    _too_slow: bool = False

    def send(self, message: str | bytes) -> None:
        """Queue a message; a client that lets too many pile up is disconnected."""
        if len(self._unsent) >= MAX_UNSENT:
            self._too_slow = True
        else:
            self._unsent.append(message)
        self._wake.set()

    async def write(self) -> None:
        """Send what is queued, for as long as the socket lives."""
        while not self.connection.closed:
            await self._wake.wait()
            self._wake = anyio.Event()
            if self._too_slow:
                await self.connection.close(code=1013, message=b"slow consumer")
                return
            while self._unsent:
                message = self._unsent.popleft()
                try:
                    if isinstance(message, bytes):
                        await self.connection.send_bytes(message)
                    else:
                        await self.connection.send_str(message)
                except (ConnectionError, RuntimeError):  # it closed meanwhile
                    return


@dataclass(eq=False, slots=True)
class Channel:
    """One topic that a socket joined.

    Attributes:
        claims: of the caller: the access token given when joining, else the API key.
        acknowledges: whether broadcasts are answered; `echoes`: whether the sender gets them too.
        presence_key: the name under which it is present; `presence` what it told of itself.
        may_read: extensions (`broadcast`, `presence`) of a private channel; `may_write` likewise.
    """

    socket: Socket
    topic: str
    join_ref: str | None
    claims: Claims
    token: str | None
    private: bool = False
    acknowledges: bool = False
    echoes: bool = False
    presence_key: str = ""
    wants_presence: bool = False
    presence: dict[str, Any] | None = None
    subscriptions: list[Subscription] = field(default_factory=list)
    may_read: frozenset[str] = frozenset()
    may_write: frozenset[str] = frozenset()
    expiry: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        """The topic as applications know it."""
        return self.topic.removeprefix(TOPIC_PREFIX)

    @property
    def caller(self) -> tuple[str, str]:
        """Role and claims, equal for all who may see the same."""
        return str(self.claims.get("role", "anon")), frames.dumps(self.claims)

    def reads(self, extension: str) -> bool:
        """Whether messages of this extension may reach it."""
        return not self.private or extension in self.may_read

    def writes(self, extension: str) -> bool:
        """Whether it may send messages of this extension."""
        return not self.private or extension in self.may_write

    def push(self, event: str, payload: dict[str, Any], ref: str | None = None) -> None:
        """Send an event of this channel to its client."""
        version = self.socket.version
        self.socket.send(frames.encode(version, self.topic, event, payload, ref, self.join_ref))

    def system(self, extension: str, status: str, message: str) -> None:
        """Tell the client how a subscription or the channel stands."""
        told = {"channel": self.name, "extension": extension, "message": message, "status": status}
        self.push("system", told)


@dataclass(slots=True)
class Channels:
    """All channels, by topic and by what tables they watch."""

    sockets: set[Socket] = field(default_factory=set)
    _topics: dict[str, set[Channel]] = field(default_factory=dict)
    _watched: dict[tuple[str, str], dict[Subscription, Channel]] = field(default_factory=dict)

    def add(self, channel: Channel) -> None:
        """A channel was joined."""
        channel.socket.channels[channel.topic] = channel
        self._topics.setdefault(channel.topic, set()).add(channel)
        for one in channel.subscriptions:
            self._watched.setdefault((one.schema, one.table), {})[one] = channel

    def remove(self, channel: Channel) -> None:
        """A channel was left; its presence goes with it. Safe to call twice."""
        if channel.expiry is not None:
            channel.expiry.cancel()
        if channel.socket.channels.get(channel.topic) is channel:
            del channel.socket.channels[channel.topic]
        here = self._topics.get(channel.topic, set())
        here.discard(channel)
        if not here:
            self._topics.pop(channel.topic, None)
        for one in channel.subscriptions:
            self._watched.get((one.schema, one.table), {}).pop(one, None)
        if channel.presence is not None:
            gone, channel.presence = channel.presence, None
            self.tell_presence(channel, joined=None, left=gone)

    def on(self, topic: str, *, private: bool) -> Iterator[Channel]:
        """Channels of a topic. Private and public ones of the same name do not meet."""
        for channel in list(self._topics.get(topic, ())):
            if channel.private == private:
                yield channel

    def watching(self, schema: str, table: str) -> list[tuple[Subscription, Channel]]:
        """Subscriptions that a change of this table may concern."""
        keys = ((schema, table), (schema, "*"), ("*", "*"))
        return [found for key in keys for found in self._watched.get(key, {}).items()]

    def broadcast(
        self,
        topic: str,
        event: str,
        payload: dict[str, Any] | bytes,
        *,
        private: bool,
        sender: Channel | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Send to everybody on a topic, the sender only if it wants that."""
        for channel in self.on(topic, private=private):
            if not channel.reads("broadcast") or (channel is sender and not channel.echoes):
                continue
            if channel.socket.version == 2:
                channel.socket.send(frames.encode_broadcast(topic, event, payload, metadata))
            elif not isinstance(payload, bytes):  # version 1 cannot carry bytes
                message = {"event": event, "payload": payload, "type": "broadcast"}
                channel.push("broadcast", message | ({"meta": metadata} if metadata else {}))

    def presence_of(self, channel: Channel) -> dict[str, Any]:
        """Everybody who is present on the channel's topic."""
        present: dict[str, Any] = {}
        for other in self.on(channel.topic, private=channel.private):
            if other.presence is not None:
                entry = present.setdefault(other.presence_key, {"metas": []})
                entry["metas"].append(other.presence)
        return present

    def track(self, channel: Channel, told: dict[str, Any] | None) -> None:
        """Somebody tells of themselves, or no longer (None)."""
        before = channel.presence
        channel.presence = None if told is None else {"phx_ref": uuid.uuid4().hex[:16], **told}
        self.tell_presence(channel, joined=channel.presence, left=before)

    def tell_presence(
        self, channel: Channel, *, joined: dict[str, Any] | None, left: dict[str, Any] | None
    ) -> None:
        """Tell everybody on the topic that somebody came or went."""

        def entry(told: dict[str, Any] | None) -> dict[str, Any]:
            return {channel.presence_key: {"metas": [told]}} if told is not None else {}

        difference = {"joins": entry(joined), "leaves": entry(left)}
        for other in self.on(channel.topic, private=channel.private):
            if other.wants_presence and other.reads("presence"):
                other.push("presence_diff", difference)
