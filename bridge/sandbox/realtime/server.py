"""`/realtime/v1`: the WebSocket and its verbs, and broadcasts over HTTP."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import anyio
import psycopg
from aiohttp import WSMsgType, web
from loguru import logger
from psycopg.sql import SQL, Identifier

from bridge.sandbox.faults import LATE_S, Faults, Realtime
from bridge.sandbox.keys import Claims, Keys, Unauthorized
from bridge.sandbox.pool import connected
from bridge.sandbox.realtime import frames
from bridge.sandbox.realtime.channels import TOPIC_PREFIX, Channel, Channels, Socket, Subscription
from bridge.sandbox.realtime.deliveries import Deliveries
from bridge.sandbox.realtime.filters import BadFilter, filter_sql
from bridge.sandbox.realtime.permissions import Permissions
from bridge.sandbox.realtime.pgoutput import Change
from bridge.sandbox.realtime.replication import ReplicationEnded, read_changes

PREFIX = "/realtime/v1"
PUBLICATIONS = ("supabase_realtime", "supabase_realtime_messages")
MAX_MESSAGE_BYTES = 8 * 1024 * 1024
EVENTS = {"*", "INSERT", "UPDATE", "DELETE"}
SUBSCRIBED = "Subscribed to PostgreSQL"


class JoinRefused(Exception):
    """A channel cannot be joined like this; the reason goes to the client."""


# When each change is told, after it happened.
_DELAYS_S: dict[Realtime, tuple[float, ...]] = {
    Realtime.ON: (0.0,),
    Realtime.LATE: (LATE_S,),
    Realtime.REPEATING: (0.0, 0.0, LATE_S),
}


@dataclass(slots=True)
class RealtimeServer:
    """Realtime's part of the gateway. `run` reads the stream; `started` is set once it does.

    Attributes:
        stream_url: connects as a superuser, who may replicate.
        asking_url: connects as who may take any caller's role.
        queries: a superuser's connection: casts rows, checks subscriptions.
        permissions: asks as the callers.
    """

    stream_url: str
    asking_url: str
    keys: Keys
    faults: Faults
    started: anyio.Event = field(default_factory=anyio.Event)
    channels: Channels = field(default_factory=Channels)
    queries: psycopg.AsyncConnection[Any] = field(init=False)
    permissions: Permissions = field(init=False)
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _turn: anyio.Lock = field(default_factory=anyio.Lock)

    def routes(self) -> list[web.RouteDef]:
        """What the gateway serves of this."""
        return [
            web.get(f"{PREFIX}/websocket", self.serve_socket),
            web.post(f"{PREFIX}/api/broadcast", self.broadcast_over_http),
        ]

    async def run(self) -> None:
        """Deliver changes as they commit. Never returns; outlives restarts of the database."""
        while True:
            try:
                await self._read()
            except (ReplicationEnded, psycopg.OperationalError) as error:
                logger.warning("the replication stream ended; reading anew", error=str(error))
                await anyio.sleep(1)

    async def _read(self) -> None:
        async with connected(self.stream_url) as queries, connected(self.asking_url) as ask:
            self.queries, self.permissions = queries, Permissions(ask)
            deliveries = Deliveries(queries, self.permissions, self.channels)
            stream = read_changes(self.stream_url, PUBLICATIONS, started=self.started)
            async with aclosing(stream):
                async for batch in stream:
                    try:
                        await self._deliver(deliveries, batch)
                    except psycopg.OperationalError:
                        raise  # the database is gone: everything anew
                    except Exception:  # noqa: BLE001 - one batch must not end the others
                        logger.exception("changes were not delivered", changes=len(batch))

    async def close_sockets(self) -> None:
        """Disconnect everybody."""
        for socket in list(self.channels.sockets):
            with anyio.move_on_after(1, shield=True):
                await socket.connection.close(code=1012, message=b"restart")

    def cut_sockets(self) -> None:
        """Break all connections without a word."""
        for socket in list(self.channels.sockets):
            if socket.transport is not None:
                socket.transport.abort()

    async def _deliver(self, deliveries: Deliveries, batch: list[Change]) -> None:
        sent_from_sql = [change for change in batch if _names(change) == ("realtime", "messages")]
        others = [change for change in batch if _names(change) != ("realtime", "messages")]
        for change in sent_from_sql:
            self._broadcast_row(change)
        if not others:
            return
        async with self._turn:
            found = await deliveries.of(others)
        loop = asyncio.get_running_loop()
        for delay_s in _DELAYS_S.get(self.faults.realtime, ()):
            for delivery in found:
                body = {"ids": delivery.ids, "data": delivery.data}
                if delay_s:
                    loop.call_later(delay_s, delivery.channel.push, "postgres_changes", body)
                else:
                    delivery.channel.push("postgres_changes", body)

    def _broadcast_row(self, change: Change) -> None:
        """`realtime.send()` of the database."""
        row = change.new or {}
        if change.verb != "INSERT" or row.get("extension") != "broadcast" or self._is_deaf():
            return
        self.channels.broadcast(
            f"{TOPIC_PREFIX}{row['topic']}",
            row.get("event") or "",
            json.loads(row.get("payload") or "{}"),
            private=row.get("private") == "t",
            metadata={"id": row["id"]},
        )

    def _is_deaf(self) -> bool:
        return self.faults.realtime in (Realtime.DEAF, Realtime.MUTE)

    # ------------------------------------------------------------------ one socket

    async def serve_socket(self, request: web.Request) -> web.StreamResponse:
        """A client's WebSocket, until it closes."""
        if self.faults.realtime is Realtime.OFF:
            return web.json_response({"error": "Realtime is switched off"}, status=503)
        key = request.headers.get("x-api-key") or request.query.get("apikey") or ""
        role = self.keys.role_of_key(key)
        if role is None:
            message = "Invalid API key" if key else "No API key found in request"
            return web.json_response({"message": message}, status=401)
        version = request.query.get("vsn", "1.0.0")
        if version.split(".")[0] not in {"1", "2"}:
            return web.json_response({"error": f"Unknown version {version}"}, status=400)
        connection = web.WebSocketResponse(max_msg_size=MAX_MESSAGE_BYTES, compress=False)
        await connection.prepare(request)
        socket = Socket(connection, request.transport, int(version[0]), {"role": role})
        self.channels.sockets.add(socket)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(socket.write, name="realtime writer")
                async for frame in connection:
                    if frame.type in {WSMsgType.TEXT, WSMsgType.BINARY}:
                        await self._receive(socket, frame.data)
                tasks.cancel_scope.cancel()
        finally:
            self.channels.sockets.discard(socket)
            for channel in list(socket.channels.values()):
                self.channels.remove(channel)
        return connection

    async def _receive(self, socket: Socket, data: str | bytes) -> None:
        try:
            message = (
                frames.decode_text(data) if isinstance(data, str) else frames.decode_binary(data)
            )
        except frames.BadFrame as error:
            logger.warning("a Realtime client sent something unknown", reason=str(error))
            return
        try:
            await self._handle(socket, message)
        except (psycopg.Error, KeyError, TypeError, ValueError) as error:
            reason = str(error).split("\n", 1)[0]
            self._reply(socket, message, "error", {"reason": f"Unknown Error on Channel: {reason}"})

    async def _handle(self, socket: Socket, message: frames.Message) -> None:
        if self.faults.realtime is Realtime.MUTE:
            return
        if message.topic == "phoenix":  # heartbeat
            self._reply(socket, message, "ok")
            return
        if message.event == "phx_join":
            await self._join(socket, message)
            return
        channel = socket.channels.get(message.topic)
        if channel is None:
            self._reply(socket, message, "error", {"reason": "unmatched topic"})
            return
        match message.event:
            case "phx_leave":
                self.channels.remove(channel)
                self._reply(socket, message, "ok")
                channel.push("phx_close", {}, message.ref)
            case "access_token":
                await self._renew(channel, message.payload.get("access_token"))
            case "broadcast":
                self._broadcast(channel, message)
            case "presence":
                self._present(channel, message)
            case event:
                reason = {"reason": f"The sandbox does not know the event {event!r}"}
                self._reply(socket, message, "error", reason)

    def _reply(
        self,
        socket: Socket,
        message: frames.Message,
        status: str,
        response: dict[str, Any] | None = None,
    ) -> None:
        payload = {"status": status, "response": response or {}}
        socket.send(
            frames.encode(
                socket.version, message.topic, "phx_reply", payload, message.ref, message.join_ref
            )
        )

    # ------------------------------------------------------------------ verbs of a channel

    async def _join(self, socket: Socket, message: frames.Message) -> None:
        earlier = socket.channels.get(message.topic)
        if earlier is not None:
            self.channels.remove(earlier)
        try:
            channel = self._new_channel(socket, message)
            if channel.private:
                await self._authorize(channel)
        except JoinRefused as error:
            self._reply(socket, message, "error", {"reason": str(error)})
            return
        config = message.payload.get("config") or {}
        wanted = config.get("postgres_changes") or []
        echoed, problem = [], None
        for one in wanted:
            subscription = self._subscription(one)
            echoed.append(one | {"id": subscription.id})
            try:
                await self._check(subscription)
            except (BadFilter, psycopg.Error) as error:
                problem = str(error).split("\n", 1)[0]
            else:
                channel.subscriptions.append(subscription)
        self.channels.add(channel)
        self._arm(channel)
        self._reply(socket, message, "ok", {"postgres_changes": echoed})
        if channel.wants_presence and channel.reads("presence"):
            channel.push("presence_state", self.channels.presence_of(channel))
        if wanted:
            status = "ok" if problem is None else "error"
            channel.system("postgres_changes", status, problem or SUBSCRIBED)

    async def _authorize(self, channel: Channel) -> None:
        await self.permissions.authorize(channel)
        if not channel.may_read:
            raise JoinRefused(
                "Unauthorized: You do not have permissions to read from this Channel "
                f"topic: {channel.name}"
            )

    def _new_channel(self, socket: Socket, message: frames.Message) -> Channel:
        config = message.payload.get("config") or {}
        broadcast = config.get("broadcast") or {}
        presence = config.get("presence") or {}
        if broadcast.get("replay"):
            raise JoinRefused("The sandbox does not support replaying broadcasts")
        token = message.payload.get("access_token")
        try:
            claims = self._claims(token) or socket.claims
        except Unauthorized as error:
            raise JoinRefused(f"InvalidJWTToken: {error.message}") from error
        return Channel(
            socket=socket,
            topic=message.topic,
            join_ref=message.join_ref,
            claims=claims,
            token=token,
            private=bool(config.get("private")),
            acknowledges=bool(broadcast.get("ack")),
            echoes=bool(broadcast.get("self")),
            presence_key=presence.get("key") or str(uuid.uuid4()),
            wants_presence=bool(presence.get("enabled", bool(presence.get("key")))),
        )

    def _subscription(self, wanted: dict[str, Any]) -> Subscription:
        event = str(wanted.get("event") or "*").upper()
        if event not in EVENTS:
            raise ValueError(f"unknown event {event!r}")
        return Subscription(
            id=next(self._ids),
            event=event,
            schema=wanted.get("schema") or "public",
            table=wanted.get("table") or "*",
            filter=wanted.get("filter") or "",
            columns=frozenset(wanted.get("select") or ()),
        )

    async def _check(self, one: Subscription) -> None:
        """An unknown table or a bad filter does not fail the join, but the subscription."""
        if one.table == "*":
            if one.filter:
                raise BadFilter("A filter needs a table")
            return
        async with self._turn:
            cursor = await self.queries.execute(
                b"select 1 from pg_publication_tables"
                b" where pubname = %s and schemaname = %s and tablename = %s",
                [PUBLICATIONS[0], one.schema, one.table],
            )
            if await cursor.fetchone() is None:
                raise BadFilter(
                    "Unable to subscribe to changes with given parameters. Please check Realtime "
                    "is enabled for the given connect parameters: "
                    f"[schema: {one.schema}, table: {one.table}, filters: {one.filter}]"
                )
            if one.filter:
                query = SQL("select {} from {} r limit 0")
                condition = filter_sql(one.filter, "r")
                await self.queries.execute(
                    query.format(condition, Identifier(one.schema, one.table))
                )

    async def _renew(self, channel: Channel, token: Any) -> None:
        """The client sends the token that it has now."""
        if not isinstance(token, str) or token == channel.token:
            return
        try:
            claims = self._claims(token)
        except Unauthorized as error:
            self._shut(channel, _told(error))
            return
        if claims is None:
            return
        channel.token, channel.claims = token, claims
        self._arm(channel)
        if channel.private:
            await self.permissions.authorize(channel)
            if not channel.may_read:
                message = "You no longer have permission to read from this Channel topic"
                self._shut(channel, f"{message}: {channel.name}")
                return
        if channel.subscriptions:
            channel.system("postgres_changes", "ok", SUBSCRIBED)

    def _broadcast(self, channel: Channel, message: frames.Message) -> None:
        if channel.writes("broadcast") and not self._is_deaf():
            self.channels.broadcast(
                channel.topic,
                str(message.payload.get("event", "")),
                message.payload.get("payload", {}),
                private=channel.private,
                sender=channel,
            )
        if channel.acknowledges:
            self._reply(channel.socket, message, "ok")

    def _present(self, channel: Channel, message: frames.Message) -> None:
        if not channel.writes("presence"):
            self._reply(channel.socket, message, "error", {"reason": "unauthorized"})
            return
        verb = str(message.payload.get("event", "")).lower()
        if verb not in {"track", "untrack"}:
            self._reply(channel.socket, message, "error", {"reason": f"unknown event {verb!r}"})
            return
        if verb == "track":
            channel.wants_presence = True
        self.channels.track(
            channel, message.payload.get("payload", {}) if verb == "track" else None
        )
        self._reply(channel.socket, message, "ok")

    def _claims(self, token: Any) -> Claims | None:
        """Claims of a user's token; None if it is an API key, whose role the socket has."""
        if not isinstance(token, str) or not token or token.startswith("sb_"):
            return None
        role = self.keys.role_of_key(token)
        if role is not None:
            return {"role": role}
        claims = self.keys.claims_of_token(token)
        if "role" not in claims or "exp" not in claims:
            raise Unauthorized("Fields `role` and `exp` are required in JWT")
        return claims

    def _arm(self, channel: Channel) -> None:
        """Shut the channel when its token expires."""
        if channel.expiry is not None:
            channel.expiry.cancel()
        expires_at = channel.claims.get("exp")
        if expires_at is not None:
            delay_s = max(0.0, float(expires_at) - time.time())
            loop = asyncio.get_running_loop()
            channel.expiry = loop.call_later(delay_s, self._shut, channel, "Token has expired")

    def _shut(self, channel: Channel, message: str) -> None:
        channel.system("system", "error", message)
        self.channels.remove(channel)
        channel.push("phx_close", {})

    # ------------------------------------------------------------------ HTTP

    async def broadcast_over_http(self, request: web.Request) -> web.Response:
        """`POST /api/broadcast`: messages to topics, without a socket."""
        if self.faults.realtime is Realtime.OFF:
            return web.json_response({"error": "Realtime is switched off"}, status=503)
        try:
            claims = self.keys.claims_of_request(request.headers, request.query)
        except Unauthorized as error:
            return web.json_response({"message": error.message}, status=401)
        try:
            messages = (await request.json())["messages"]
            wanted = [
                (m["topic"], m["event"], m.get("payload") or {}, bool(m.get("private")))
                for m in messages
            ]
        except (ValueError, KeyError, TypeError):
            return web.json_response({"message": "Malformed broadcast"}, status=422)
        caller = (str(claims["role"]), frames.dumps(claims))
        for topic, event, payload, private in wanted:
            if private:
                _, writable = await self.permissions.of_topic(topic, caller)
                if "broadcast" not in writable:
                    continue
            if not self._is_deaf():
                self.channels.broadcast(f"{TOPIC_PREFIX}{topic}", event, payload, private=private)
        return web.Response(status=202)


def _names(change: Change) -> tuple[str, str]:
    return change.relation.schema, change.relation.table


def _told(error: Unauthorized) -> str:
    return "Token has expired" if error.expired else error.message
