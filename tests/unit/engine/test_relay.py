"""The relay: what it lets through, what it sees, and how it parts."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.abc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.engine import relay as module
from bridge.engine.relay import Meter, Relay
from bridge.ids import AccountId, WhatsAppMessageId

pytestmark = pytest.mark.anyio

ACCOUNT = AccountId("11111111-1111-1111-1111-111111111111")
W = WhatsAppMessageId("W")


def record(size: int, kind: int = 23) -> bytes:
    return bytes([kind, 3, 3]) + size.to_bytes(2, "big") + b"x" * size


@given(
    st.lists(st.tuples(st.sampled_from([20, 22, 23]), st.integers(0, 300)), max_size=8),
    st.lists(st.integers(1, 50), min_size=1, max_size=20),
)
def test_records_are_counted_however_the_bytes_were_cut(
    records: list[tuple[int, int]], cuts: list[int]
) -> None:
    meter, data, index = Meter(), b"".join(record(size, kind) for kind, size in records), 0
    while data:
        size = cuts[index % len(cuts)]
        meter.feed(data[:size])
        data, index = data[size:], index + 1
    expected = [size for kind, size in records if kind == 23]
    assert [size for size in meter.records if size] == [size for size in expected if size]


class Server:
    """Stands for WhatsApp: keeps what it got."""

    def __init__(self) -> None:
        self.got = b""
        self.ended = anyio.Event()
        self.reads = True

    async def serve(self, stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.send(b"hello")
            try:
                while self.reads:
                    self.got += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass
            self.ended.set()


@asynccontextmanager
async def standing(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Relay, Server, str]]:
    server, relay = Server(), Relay()
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    target = f"127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
    monkeypatch.setattr(module, "_CHAT", target)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, server.serve)
        await tasks.start(relay.run)
        yield relay, server, target
        tasks.cancel_scope.cancel()


async def tunnel(url: str, target: str) -> anyio.abc.SocketStream:
    """What an engine does."""
    pair, _, address = url.removeprefix("http://").partition("@")
    stream = await anyio.connect_tcp("127.0.0.1", int(address.rpartition(":")[2]))
    secret = base64.b64encode(pair.encode()).decode()
    head = f"CONNECT {target} HTTP/1.1\r\nProxy-Authorization: Basic {secret}\r\n\r\n"
    await stream.send(head.encode())
    return stream


async def until(stream: anyio.abc.SocketStream, what: bytes) -> None:
    got = b""
    with anyio.fail_after(10):
        while what not in got:
            got += await stream.receive()


async def test_what_was_written_before_the_end_arrives_and_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with standing(monkeypatch) as (relay, server, target):
        line, url = relay.new_line(ACCOUNT)
        assert line is not None
        engine = await tunnel(url, target)
        await until(engine, b"hello")
        line.leaving(W, 200, 400)
        await engine.send(record(300))
        await anyio.aclose_forcefully(engine)
        assert await line.written() == {W: True}
        with anyio.fail_after(10):
            await server.ended.wait()
        assert server.got == record(300)


async def test_another_stanza_is_not_taken_for_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    async with standing(monkeypatch) as (relay, _, target):
        line, url = relay.new_line(ACCOUNT)
        assert line is not None
        engine = await tunnel(url, target)
        await until(engine, b"hello")
        await engine.send(record(300))  # before it was released
        await anyio.wait_all_tasks_blocked()
        while not line._tunnels or not line._tunnels[-1].meter.records:
            await anyio.sleep(0.01)
        line.leaving(W, 200, 400)
        await engine.send(record(90) + record(3000) + record(300)[:-1])  # cut short
        await anyio.aclose_forcefully(engine)
        assert await line.written() == {W: False}


async def test_of_a_side_that_ended_first_nobody_knows_what_it_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with standing(monkeypatch) as (relay, server, target):
        line, url = relay.new_line(ACCOUNT)
        assert line is not None
        engine = await tunnel(url, target)
        await until(engine, b"hello")
        server.reads = False
        line.leaving(W, 200, 400)
        await engine.send(record(300))
        with anyio.fail_after(10):
            await server.ended.wait()
        assert await line.written() == {}
        await engine.aclose()


async def test_nobody_gets_through_without_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    async with standing(monkeypatch) as (relay, server, target):
        _, url = relay.new_line(ACCOUNT)
        stranger = await tunnel(url.replace("@", "x@"), target)
        await until(stranger, b" 407 ")
        await stranger.aclose()
        assert server.got == b""
