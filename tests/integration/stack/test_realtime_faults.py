"""Realtime on a bad day: cut, deaf, and back again."""

from __future__ import annotations

import json
import uuid

import aiohttp
import anyio
import pytest

from bridge.sandbox.stack import StackInfo
from tests.fixtures.stack import insert, service_client

pytestmark = pytest.mark.anyio


@pytest.fixture
def faults(example_stack: StackInfo):
    yield example_stack.faults
    example_stack.faults.heal()


async def joined(socket: aiohttp.ClientWebSocketResponse) -> None:
    """Join a channel of version 1 that watches all rooms, and wait until it is live."""
    binding = {"event": "INSERT", "schema": "public", "table": "rooms"}
    await socket.send_json(
        {
            "topic": "realtime:rooms",
            "event": "phx_join",
            "ref": "1",
            "payload": {"config": {"postgres_changes": [binding]}},
        }
    )
    while json.loads(await socket.receive_str())["event"] != "system":
        pass


def url(stack: StackInfo) -> str:
    return f"{stack.url}/realtime/v1/websocket?apikey={stack.service_role_key}&vsn=1.0.0"


def new_room(stack: StackInfo) -> str:
    with service_client(stack) as service:
        return str(insert(service, "rooms", {"phone": uuid.uuid4().hex})["id"])


async def test_cut_sockets_end_and_new_ones_work(example_stack, faults):
    async with aiohttp.ClientSession() as http:
        async with http.ws_connect(url(example_stack)) as socket:
            await joined(socket)
            faults.cut_realtime()
            with anyio.fail_after(30):
                assert (await socket.receive()).type in {
                    aiohttp.WSMsgType.CLOSED,
                    aiohttp.WSMsgType.ERROR,
                    aiohttp.WSMsgType.CLOSE,
                }
        async with http.ws_connect(url(example_stack)) as socket:
            await joined(socket)


async def test_deaf_answers_and_delivers_nothing(example_stack, faults):
    async with aiohttp.ClientSession() as http, http.ws_connect(url(example_stack)) as socket:
        await joined(socket)
        faults.realtime_deaf()
        new_room(example_stack)
        await socket.send_json(
            {"topic": "phoenix", "event": "heartbeat", "ref": "2", "payload": {}}
        )
        with anyio.fail_after(30):
            heartbeat = json.loads(await socket.receive_str())
        assert heartbeat["event"] == "phx_reply"
        with anyio.move_on_after(0.5) as quiet:
            await socket.receive_str()
        assert quiet.cancelled_caught


async def test_nonsense_on_the_socket_ends_nobody(example_stack):
    async with aiohttp.ClientSession() as http, http.ws_connect(url(example_stack)) as socket:
        for text in ("", "{", "[]", "[1,2,3]", '{"topic": 1, "event": 2}', "null", '"x"'):
            await socket.send_str(text)
        for data in (b"", b"\x03", b"\x03\xff\xff\xff\xff\xff\x01", b"\x09" * 20):
            await socket.send_bytes(data)
        bad = {"config": {"postgres_changes": [{"event": "SOMETIMES"}]}}
        await socket.send_json({"topic": "realtime:x", "event": "phx_join", "payload": bad})
        with anyio.fail_after(30):
            refusal = json.loads(await socket.receive_str())
        assert refusal["payload"]["status"] == "error"
        await joined(socket)
        room = new_room(example_stack)
        with anyio.fail_after(30):
            change = json.loads(await socket.receive_str())
        assert change["payload"]["data"]["record"]["id"] == room
