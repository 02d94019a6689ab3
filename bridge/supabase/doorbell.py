"""Realtime as a doorbell: a new row in `commands` rings. It carries no data and may fail silently.

The client library can lose its connection without saying so, so it is never trusted: a watchdog
looks at the connection and at commands that were found though nothing has rung since they were
inserted, and renews the connection well before the server would end it. Whatever is wrong, the
remedy is the same: away with the client, a new one from scratch.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import anyio
from loguru import logger
from realtime import AsyncRealtimeClient, RealtimeSubscribeStates
from realtime.types import RealtimeChannelConfig, RealtimePostgresChangesListenEvent

from bridge.supabase.patience import Backoff

SUBSCRIBE_S = 15.0
LOOK_EVERY_S = 1.0
CLOSE_S = 2.0
# Hosted projects end connections without a signed-in user after 24 hours.
RENEW_AFTER_S = 20 * 3600.0
# A command that was inserted so long ago, and nothing has rung since: the bell is broken.
DEAF_S = 3.0
# The answer to a claim takes a while: what was inserted just after a ring may be what rang.
NEAR_S = 1.0

_HEAR_ONESELF: RealtimeChannelConfig = {
    "broadcast": {"ack": False, "self": True},
    "presence": {"key": "", "enabled": False},
    "private": False,
}

# It logs every failed attempt as an error, on a handler of its own; the watchdog tells it once.
logging.getLogger("realtime").addHandler(logging.NullHandler())
logging.getLogger("realtime").propagate = False


class BellBroken(Exception):
    """The connection is of no use any more; the text says why."""


class Doorbell:
    """Rings when a command was inserted, and after every (re)connection.

    Args:
        rings: called for each ring; must be quick, are called from the event loop.
        make_client: makes a client that is not connected yet.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *rings: Callable[[], None],
        make_client: Callable[[str, str], AsyncRealtimeClient] | None = None,
    ) -> None:
        self._url = f"{url}/realtime/v1"
        self._key = key
        self._rings = rings
        self._make_client = make_client or _client
        self._rung_at = 0.0
        self._silent_since: float | None = None
        self._broken = anyio.Event()
        self._why = ""
        self.live = False

    def found(self, age_s: float) -> None:
        """A command was found that was inserted so long ago, whatever made somebody look."""
        inserted_at = time.monotonic() - age_s
        if self._silent_since is None and inserted_at > self._rung_at + NEAR_S:
            self._silent_since = inserted_at

    async def keep(self) -> None:
        """Until cancelled: connect, watch, and begin again."""
        backoff = Backoff(1.0, 30.0, least_s=0.2)
        while True:
            try:
                await self._one_connection(backoff)
            except BellBroken as broken:
                if backoff.attempts in (0, 5):
                    logger.warning("Realtime is away; commands are polled", reason=str(broken))
            finally:
                self.live = False
            await anyio.sleep(backoff.next_delay_s())

    async def _one_connection(self, backoff: Backoff) -> None:
        self._broken = anyio.Event()
        client = self._make_client(self._url, self._key)
        try:
            await self._subscribe(client)
            backoff.reset()
            self.live = True
            logger.info("Realtime rings for new commands")
            self._ring()  # for what was inserted while nobody listened
            await self._watch(client)
        finally:
            with anyio.move_on_after(CLOSE_S, shield=True):
                await client.close()

    async def _subscribe(self, client: AsyncRealtimeClient) -> None:
        flowing = anyio.Event()
        try:
            with anyio.fail_after(SUBSCRIBE_S):
                await client.connect()
                channel = client.channel("wabridge-doorbell")
                channel.on_postgres_changes(
                    RealtimePostgresChangesListenEvent.Insert,
                    self._rung,
                    table="commands",
                    schema="public",
                )
                # `subscribed` comes before changes flow; the system message says that they do
                channel.on_system(lambda _: flowing.set())
                await channel.subscribe(self._state_changed)
                await self._first_of(flowing)
        except TimeoutError:
            raise BellBroken("no subscription in time") from None
        except BellBroken:
            raise
        except Exception as error:  # the library raises bare exceptions of many kinds
            raise BellBroken(f"no connection ({type(error).__name__})") from error

    async def _first_of(self, flowing: anyio.Event) -> None:
        async with anyio.create_task_group() as waiters:

            async def end_when(event: anyio.Event) -> None:
                await event.wait()
                waiters.cancel_scope.cancel()

            waiters.start_soon(end_when, flowing)
            waiters.start_soon(end_when, self._broken)
        if self._broken.is_set():
            raise BellBroken(self._why)

    async def _watch(self, client: AsyncRealtimeClient) -> None:
        with anyio.move_on_after(RENEW_AFTER_S):
            while not self._broken.is_set():
                channels = client.get_channels()
                if not client.is_connected or not all(channel.is_joined for channel in channels):
                    raise BellBroken("the connection is gone")
                since = self._silent_since
                if since is not None and time.monotonic() - since > DEAF_S:
                    raise BellBroken("commands came without a ring")
                with anyio.move_on_after(LOOK_EVERY_S):
                    await self._broken.wait()
            raise BellBroken(self._why)

    def _rung(self, _payload: Any) -> None:
        self._ring()

    def _ring(self) -> None:
        self._rung_at = time.monotonic()
        self._silent_since = None
        for ring in self._rings:
            ring()

    def _state_changed(self, state: RealtimeSubscribeStates, _error: Exception | None) -> None:
        if state is not RealtimeSubscribeStates.SUBSCRIBED:
            self._break(f"the channel is {state.value.lower()}")

    def _break(self, why: str) -> None:
        self._why = why
        self._broken.set()


def _client(url: str, key: str) -> AsyncRealtimeClient:
    return AsyncRealtimeClient(url, token=key, auto_reconnect=False, max_retries=1)


async def try_realtime(url: str, key: str) -> str | None:
    """One round trip: subscribe to changes as the bridge does, then hear an own broadcast.

    Returns:
        What is wrong, in one sentence; None if all is well.
    """
    heard = anyio.Event()
    flowing = anyio.Event()
    client = _client(f"{url}/realtime/v1", key)
    try:
        with anyio.fail_after(SUBSCRIBE_S):
            await client.connect()
            channel = client.channel("wabridge-doctor", {"config": _HEAR_ONESELF})
            channel.on_postgres_changes(
                RealtimePostgresChangesListenEvent.Insert,
                lambda _: None,
                table="commands",
                schema="public",
            )
            channel.on_system(lambda _: flowing.set())
            channel.on_broadcast("doctor", lambda _: heard.set())
            await channel.subscribe()
            await flowing.wait()
            await channel.send_broadcast("doctor", {"hello": True})
            await heard.wait()
    except TimeoutError:
        missing = "its own message came back" if flowing.is_set() else "it followed the table"
        return f"Realtime answered, but not so far that {missing}."
    except Exception as error:  # noqa: BLE001 - the library raises bare exceptions of many kinds
        return f"Realtime cannot be reached ({type(error).__name__})."
    finally:
        with anyio.move_on_after(CLOSE_S, shield=True):
            await client.close()
    return None
