"""Which fault an answer means."""

from __future__ import annotations

import json

import httpx
import pytest

from bridge.errors import BridgeError, ConfigError, LeaseLost, SupabaseUnavailable
from bridge.ids import AccountId, LeaseEpoch, WorkerId
from bridge.supabase.client import (
    GenerationConflict,
    KeyRefused,
    RequestRefused,
    SchemaMissing,
    SupabaseHttp,
    WorkerUnknown,
    classify,
)
from bridge.supabase.rpc import BridgeRpc

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("status", "code", "fault"),
    [
        (400, "WB001", LeaseLost),
        (400, "WB002", GenerationConflict),
        (400, "WB003", WorkerUnknown),
        (400, "22023", RequestRefused),
        (409, "23505", RequestRefused),
        (500, "XX000", RequestRefused),
        (500, "40P01", SupabaseUnavailable),
        (500, "57014", SupabaseUnavailable),
        (503, "53300", SupabaseUnavailable),
        (503, "PGRST000", SupabaseUnavailable),
        (503, "PGRST002", SupabaseUnavailable),
        (404, "PGRST202", SchemaMissing),
        (404, "42883", SchemaMissing),
        (401, "PGRST301", KeyRefused),
        (403, "42501", KeyRefused),
        (401, "", KeyRefused),
        (429, "", SupabaseUnavailable),
        (502, "", SupabaseUnavailable),
        (404, "", SupabaseUnavailable),
        (413, "", RequestRefused),
    ],
)
def test_faults(status: int, code: str, fault: type[BridgeError]) -> None:
    body = json.dumps({"code": code, "message": "m"}).encode() if code else b"<html>"
    assert type(classify("bridge_check", status, body)) is fault


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (
            'Event 3 (message) was refused: invalid input syntax for type date: "11 91234, "mãe""',
            "Event 3 (message) was refused: invalid input syntax for type date: …",
        ),
        (
            'value "5511912345678" is out of range for type integer',
            "value … is out of range for type integer",
        ),
        (
            'new row for relation "messages" violates check constraint "messages_tipo_is_known"',
            'new row for relation "messages" violates check constraint "messages_tipo_is_known"',
        ),
    ],
)
def test_a_refusal_repeats_no_value(told: str, sentence: str) -> None:
    """It goes to the log, and PostgreSQL quotes what it could not read."""
    body = json.dumps({"code": "22P02", "message": told, "details": told}).encode()
    assert classify("bridge_record_events", 400, body).sentence == sentence


def http(handler: httpx.MockTransport) -> SupabaseHttp:
    return SupabaseHttp("http://127.0.0.1:1", "sb_secret_x", transport=handler)


async def test_a_connection_that_breaks_is_an_absence() -> None:
    def breaks(_: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("broken")

    async with http(httpx.MockTransport(breaks)) as client:
        with pytest.raises(SupabaseUnavailable):
            await client.rpc("bridge_check", {})


async def test_a_key_that_was_good_once_is_waited_for() -> None:
    async with http(httpx.MockTransport(lambda _: httpx.Response(401, json={}))) as client:
        with pytest.raises(ConfigError):
            await client.rpc("bridge_check", {})
        client.trust()
        with pytest.raises(SupabaseUnavailable):
            await client.rpc("bridge_check", {})


async def test_calls_carry_the_fence_and_answers_are_parsed() -> None:
    seen: list[tuple[str, dict[str, object]]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.url.path, json.loads(request.content)))
        return httpx.Response(200, json={"generation": 3, "auth_state": None, "deltas": []})

    async with http(httpx.MockTransport(answer)) as client:
        rpc = BridgeRpc(client, WorkerId("w1"))
        stored = await rpc.load_session(AccountId("a1"), LeaseEpoch(7))
    assert stored.generation == 3
    assert seen == [
        (
            "/rest/v1/rpc/bridge_load_session",
            {"p_worker": "w1", "p_account": "a1", "p_epoch": 7},
        )
    ]


async def test_an_answer_of_another_shape_is_a_fault_not_a_crash() -> None:
    async with http(httpx.MockTransport(lambda _: httpx.Response(200, json=[1]))) as client:
        with pytest.raises(RequestRefused):
            await BridgeRpc(client, WorkerId("w1")).check()
