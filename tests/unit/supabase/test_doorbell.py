"""The watchdog: whatever is wrong with the client, a new one is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import anyio
import pytest
from realtime import AsyncRealtimeClient, RealtimeSubscribeStates

from bridge.supabase.doorbell import Doorbell

pytestmark = pytest.mark.anyio


class FakeChannel:
    def __init__(self, client: FakeClient) -> None:
        self._client = client
        self.is_joined = False

    def on_postgres_changes(self, _event: Any, callback: Callable[[Any], None], **_: Any) -> None:
        self._client.insert = callback

    def on_system(self, callback: Callable[[Any], None]) -> None:
        self._client.system = callback

    async def subscribe(self, callback: Callable[[Any, Any], None]) -> None:
        self._client.state = callback
        self.is_joined = True
        if self._client.flows:
            self._client.system({"status": "ok"})


class FakeClient:
    insert: Callable[[Any], None]
    system: Callable[[Any], None]
    state: Callable[[Any, Any], None]

    def __init__(self, *, refuses: bool = False, flows: bool = True) -> None:
        self.refuses = refuses
        self.flows = flows
        self.is_connected = False
        self.closed = False
        self.channels: list[FakeChannel] = []

    async def connect(self) -> None:
        if self.refuses:
            raise OSError("refused")
        self.is_connected = True

    def channel(self, _topic: str) -> FakeChannel:
        self.channels.append(FakeChannel(self))
        return self.channels[-1]

    def get_channels(self) -> list[FakeChannel]:
        return self.channels

    async def close(self) -> None:
        self.closed = True


class Bells:
    """A doorbell whose clients the test made."""

    def __init__(self, *clients: FakeClient) -> None:
        self.clients = list(clients)
        self.made: list[FakeClient] = []
        self.rings = 0
        self.news = anyio.Event()
        self.doorbell = Doorbell("http://x", "key", self._ring, make_client=self._make)

    def _ring(self) -> None:
        self.rings += 1
        self._tell()

    def _make(self, _url: str, _key: str) -> AsyncRealtimeClient:
        self.made.append(self.clients.pop(0) if self.clients else FakeClient())
        self._tell()
        return cast("AsyncRealtimeClient", self.made[-1])

    def _tell(self) -> None:
        self.news.set()
        self.news = anyio.Event()

    async def until(self, *, rings: int) -> None:
        with anyio.fail_after(20):
            while self.rings < rings:
                await self.news.wait()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.supabase.patience.Backoff.next_delay_s", lambda _: 0.0)
    monkeypatch.setattr("bridge.supabase.doorbell.LOOK_EVERY_S", 0.01)


async def test_it_rings_when_it_is_connected_and_for_each_insert() -> None:
    bells = Bells()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bells.doorbell.keep)
        await bells.until(rings=1)
        bells.made[0].insert({"data": "ignored"})
        assert bells.rings == 2
        tasks.cancel_scope.cancel()
    assert bells.made[0].closed


def die_silently(client: FakeClient) -> None:
    client.is_connected = False


def leave(client: FakeClient) -> None:
    client.channels[0].is_joined = False


def be_told(client: FakeClient) -> None:
    client.state(RealtimeSubscribeStates.CHANNEL_ERROR, None)


@pytest.mark.parametrize("harm", [die_silently, leave, be_told])
async def test_a_broken_client_is_replaced(harm: Callable[[FakeClient], None]) -> None:
    bells = Bells()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bells.doorbell.keep)
        await bells.until(rings=1)
        harm(bells.made[0])
        await bells.until(rings=2)
        assert bells.made[0].closed
        assert len(bells.made) == 2
        tasks.cancel_scope.cancel()


async def test_a_command_that_nothing_rang_for_breaks_the_bell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bridge.supabase.doorbell.NEAR_S", 0.0)
    monkeypatch.setattr("bridge.supabase.doorbell.DEAF_S", 0.05)
    bells = Bells()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bells.doorbell.keep)
        await bells.until(rings=1)
        bells.doorbell.found(60.0)  # inserted before anybody listened
        bells.doorbell.found(0.0)
        bells.made[0].insert({})  # the bell is slow, and does ring
        await anyio.sleep(0.1)
        assert len(bells.made) == 1
        bells.doorbell.found(0.0)
        await bells.until(rings=3)
        assert len(bells.made) == 2
        tasks.cancel_scope.cancel()


async def test_refusals_and_subscriptions_that_never_flow_are_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bridge.supabase.doorbell.SUBSCRIBE_S", 0.05)
    bells = Bells(FakeClient(refuses=True), FakeClient(flows=False))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bells.doorbell.keep)
        await bells.until(rings=1)
        tasks.cancel_scope.cancel()
    assert len(bells.made) == 3
    assert all(client.closed for client in bells.made)
