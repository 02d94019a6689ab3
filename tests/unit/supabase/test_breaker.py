"""While Supabase is away one request at a time asks; the first answer frees the others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import anyio
import httpx
import pytest

from bridge.errors import SupabaseUnavailable
from bridge.ids import WorkerId
from bridge.supabase import breaker as module
from bridge.supabase.breaker import Breaker, retry_after_s
from bridge.supabase.client import CONNECTIONS, SupabaseHttp
from bridge.supabase.patience import SupabaseRests, until_available
from bridge.supabase.rpc import BridgeRpc

pytestmark = pytest.mark.anyio
AWAY = SupabaseUnavailable("away")


class Gateway:
    """Answers as the test says, and counts."""

    def __init__(self) -> None:
        self.answer: Callable[[], httpx.Response] = lambda: httpx.Response(503)
        self.asked = 0
        self.hanging: anyio.Event | None = None
        self.let_go = anyio.Event()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if self.hanging is not None and not request.url.path.endswith("hold_leases"):
            self.hanging.set()
            await self.let_go.wait()
        return self.answer()


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
async def http(gateway: Gateway) -> AsyncIterator[SupabaseHttp]:
    transport = httpx.MockTransport(gateway)
    async with SupabaseHttp("http://127.0.0.1:1", "sb_secret_x", transport=transport) as client:
        client.trust()
        yield client


async def open_circuit(http: SupabaseHttp) -> None:
    http.trust()
    for _ in range(module.OPENS_AFTER):
        with pytest.raises(SupabaseUnavailable):
            await http.rpc("bridge_check", {})


async def test_requests_that_wait_do_not_leave(
    gateway: Gateway, http: SupabaseHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAST_PROBE_S", 60.0)
    monkeypatch.setattr(module, "PATIENCE_S", 0.01)
    http = SupabaseHttp("http://127.0.0.1:1", "k", transport=httpx.MockTransport(gateway))
    await open_circuit(http)
    for _ in range(5):
        with pytest.raises(SupabaseRests):
            await http.rpc("bridge_check", {})
    assert gateway.asked == module.OPENS_AFTER


async def test_leases_go_past_and_their_answer_frees_the_others(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAST_PROBE_S", 60.0)
    monkeypatch.setattr(module, "PATIENCE_S", 60.0)
    transport = httpx.MockTransport(gateway)
    async with SupabaseHttp("http://127.0.0.1:1", "k", transport=transport) as http:
        await open_circuit(http)
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(http.rpc, "bridge_check", {})
                await anyio.wait_all_tasks_blocked()
                assert gateway.asked == module.OPENS_AFTER
                gateway.answer = lambda: httpx.Response(200, json=[])
                assert await BridgeRpc(http, WorkerId("w")).hold_leases(1, 10) == []
    assert gateway.asked == module.OPENS_AFTER + 1 + 3


async def test_a_renewal_needs_no_connection_of_requests_that_hang(
    gateway: Gateway, http: SupabaseHttp
) -> None:
    gateway.hanging = anyio.Event()
    gateway.answer = lambda: httpx.Response(200, json=[])
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for _ in range(2 * CONNECTIONS):
                tasks.start_soon(http.rpc, "bridge_check", {})
            await gateway.hanging.wait()
            assert await BridgeRpc(http, WorkerId("w")).hold_leases(1, 10) == []
            gateway.let_go.set()


async def test_a_fault_that_the_database_told_lets_others_go_on(
    gateway: Gateway, http: SupabaseHttp
) -> None:
    gateway.answer = lambda: httpx.Response(500, json={"code": "57014", "message": "timeout"})
    for _ in range(10):
        with pytest.raises(SupabaseUnavailable) as caught:
            await http.rpc("bridge_check", {})
        assert not isinstance(caught.value, SupabaseRests)
    assert gateway.asked == 10


async def test_one_fault_alone_stops_nobody(gateway: Gateway, http: SupabaseHttp) -> None:
    good = httpx.Response(200, json=[])
    answers = [httpx.Response(502), good, httpx.Response(502), httpx.Response(502), good]
    gateway.answer = lambda: answers.pop(0)
    for _ in range(5):
        try:
            await http.rpc("bridge_check", {})
        except SupabaseUnavailable as fault:
            assert not isinstance(fault, SupabaseRests)
    assert gateway.asked == 5


async def test_retry_after_is_kept_even_if_something_is_answered_meanwhile(
    gateway: Gateway, http: SupabaseHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.01)
    gateway.answer = lambda: httpx.Response(429, headers={"retry-after": "1"})
    with pytest.raises(SupabaseUnavailable):
        await http.rpc("bridge_check", {})
    began = anyio.current_time()
    gateway.answer = lambda: httpx.Response(200, json=[])
    await BridgeRpc(http, WorkerId("w")).hold_leases(1, 10)
    with pytest.raises(SupabaseRests):
        await http.rpc("bridge_check", {})
    with anyio.fail_after(20):
        await until_available(lambda: http.rpc("bridge_check", {}), what="check")
    assert anyio.current_time() - began >= 1.0


async def test_a_probe_that_hangs_or_is_cancelled_lets_the_next_one_ask(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PROBE_S", 0.05)
    breaker = Breaker()
    for _ in range(module.OPENS_AFTER):
        breaker.failed(AWAY, is_probe=False)
    with anyio.fail_after(20):
        assert await breaker.enter()
        assert await breaker.enter()
        breaker.succeeded()
        assert not await breaker.enter()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        # the answering host's clock counts, not this one's
        (
            {
                "retry-after": "Fri, 02 Jan 2015 10:00:30 GMT",
                "date": "Fri, 02 Jan 2015 10:00:00 GMT",
            },
            30.0,
        ),
        ({"retry-after": "Fri, 02 Jan 2015 10:00:30 GMT"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], expected: float | None) -> None:
    assert retry_after_s(headers) == expected
