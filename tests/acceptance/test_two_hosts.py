"""Two bridges on one project: deploys, deaths and pauses of a host, and what each has to do."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx
import psutil
import pytest

from bridge.sandbox.stack import StackInfo
from tests.acceptance.conftest import Frontend, Linked, Row, link, until
from tests.fixtures.bridge import BridgeProcess, running_bridge
from tests.fixtures.cable import Cable, cable_to
from tests.fixtures.stack import eventually, service_client

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]


@pytest.fixture
def service(stack: StackInfo) -> Iterator[httpx.Client]:
    with service_client(stack) as http:
        yield http


@pytest.fixture
def cable(stack: StackInfo) -> Iterator[tuple[Cable, str]]:
    """Between the first bridge and Supabase."""
    with cable_to(stack.url) as made:
        yield made


@pytest.fixture
def first(
    shared_environment: dict[str, str],
    cable: tuple[Cable, str],
    tmp_path: Path,
    service: httpx.Client,
) -> Iterator[BridgeProcess]:
    environment = {**shared_environment, "SUPABASE_URL": cable[1]}
    with running_bridge(environment, tmp_path / "first") as process:
        yield process
    # the next test's bridges have nothing to do with this one's accounts and hosts
    for table in ("integration_accounts", "bridge_workers"):
        service.delete(f"/rest/v1/{table}", params={"id": "not.is.null"}).raise_for_status()


@pytest.fixture
async def linked(
    first: BridgeProcess, frontend: Frontend, simulator: Any, service: httpx.Client
) -> Linked:
    return await link(frontend, simulator)


@pytest.fixture
def second(
    linked: Linked, shared_environment: dict[str, str], tmp_path: Path, service: httpx.Client
) -> Iterator[BridgeProcess]:
    """Starts when the account is connected on the first one already."""
    with running_bridge(shared_environment, tmp_path / "second") as process:
        eventually(lambda: len(rows(service, "bridge_workers")) == 2, deadline_s=30)
        eventually(lambda: "An engine process is ready" in process.log, deadline_s=30)
        yield process


def rows(service: httpx.Client, table: str, **equals: str) -> list[Row]:
    answer = service.get(
        f"/rest/v1/{table}", params={key: f"eq.{value}" for key, value in equals.items()}
    )
    answer.raise_for_status()
    found: list[Row] = answer.json()
    return found


def holder(service: httpx.Client, account: str) -> str | None:
    [session] = rows(service, "whatsapp_baileys_sessions", integration_account_id=account)
    owner: str | None = session["lease_owner"]
    return owner


def worker_of(bridge: BridgeProcess) -> str:
    return (bridge.disk / "state" / "worker_id").read_text().strip()


@dataclass
class Watched:
    """What a frontend saw of an account, and when (monotonic)."""

    seen: list[tuple[float, Row]] = field(default_factory=list)

    @property
    def away_s(self) -> float:
        """From the last look at which it was connected, before it was not, to when it was again."""
        gone = next(i for i, (_, row) in enumerate(self.seen) if row["status"] != "connected")
        back = next(at for at, row in self.seen[gone:] if row["status"] == "connected")
        return back - self.seen[gone - 1][0]

    @property
    def qr_codes(self) -> list[str]:
        return [row["last_qr"] for _, row in self.seen if row["last_qr"]]


@asynccontextmanager
async def watching(linked: Linked) -> AsyncIterator[Watched]:
    watched = Watched()

    async def look() -> None:
        while True:
            row = await linked.frontend.row("integration_accounts", id=linked.account)
            watched.seen.append((time.monotonic(), row))
            await anyio.sleep(0.05)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look)
        yield watched
        looked = len(watched.seen)
        while len(watched.seen) < looked + 2:  # what the test waited for is seen here too
            await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()


async def until_held_by(
    service: httpx.Client, linked: Linked, bridge: BridgeProcess, *, within_s: float
) -> None:
    """Connected, under a lease of this bridge."""
    worker = worker_of(bridge)

    async def look() -> tuple[str | None, str]:
        row = await linked.frontend.row("integration_accounts", id=linked.account)
        return holder(service, linked.account), row["status"]

    await until(look, lambda seen: seen == (worker, "connected"), within_s=within_s)


async def test_a_rolling_deploy_hands_an_account_over_within_five_seconds_and_without_a_qr(
    first: BridgeProcess, linked: Linked, second: BridgeProcess, service: httpx.Client
) -> None:
    await linked.talk_both_ways()
    async with watching(linked) as watched:
        await anyio.to_thread.run_sync(first.stop)
        await until_held_by(service, linked, second, within_s=30)
    print(f"away for {watched.away_s:.2f} s")
    assert watched.away_s <= 5, watched.away_s
    assert watched.qr_codes == []
    await linked.talk_both_ways()


async def test_the_accounts_of_a_killed_host_are_back_within_fifteen_seconds_and_without_a_qr(
    first: BridgeProcess, linked: Linked, second: BridgeProcess, service: httpx.Client
) -> None:
    await linked.talk_both_ways()
    async with watching(linked) as watched:
        killed_at = time.monotonic()
        first.stop(signal.SIGKILL)
        await until_held_by(service, linked, second, within_s=40)
        took_s = time.monotonic() - killed_at
    print(f"back after {took_s:.2f} s")
    assert took_s <= 15, took_s
    assert watched.qr_codes == []
    await linked.talk_both_ways()

    # its plain session file is worth nothing any more, and goes when the host runs again
    assert await session_files(first) != []
    first.start()
    await until(lambda: session_files(first), lambda files: files == [], within_s=60)
    assert holder(service, linked.account) == worker_of(second)
    await linked.talk_both_ways()


async def test_what_a_host_heard_before_it_lost_its_account_is_recorded_late(
    first: BridgeProcess,
    linked: Linked,
    second: BridgeProcess,
    service: httpx.Client,
    cable: tuple[Cable, str],
) -> None:
    await linked.talk_both_ways()
    cable[0].pull_out()
    linked.simulator.send_text(linked.customer, to=linked.number, text="heard by one host alone")
    await until_held_by(service, linked, second, within_s=60)
    await linked.talk_both_ways()
    assert await linked.frontend.rows("messages", conteudo="heard by one host alone") == []
    cable[0].plug_in()
    row = await linked.frontend.until_message(conteudo="heard by one host alone", within_s=60)
    assert row["integration_account_id"] == linked.account
    await until(lambda: session_files(first), lambda files: files == [], within_s=60)
    await linked.talk_both_ways()
    assert (await linked.frontend.row("integration_accounts", id=linked.account))[
        "status"
    ] == "connected"
    assert holder(service, linked.account) == worker_of(second)


async def test_a_host_that_was_paused_beyond_its_lease_writes_nothing_when_it_wakes_up(
    first: BridgeProcess, linked: Linked, second: BridgeProcess, service: httpx.Client
) -> None:
    await linked.talk_both_ways()
    assert first.process is not None
    host = [psutil.Process(first.process.pid), *first.engines()]
    for process in host:
        process.suspend()
    await until_held_by(service, linked, second, within_s=40)
    await linked.talk_both_ways()
    [before] = rows(service, "whatsapp_baileys_sessions", integration_account_id=linked.account)
    async with watching(linked) as watched:
        for process in host:
            process.resume()
        # it learns of its loss, and has no session of the account any more
        await until(
            lambda: log_of(first),
            lambda log: "The account is not ours any more" in log,
            within_s=30,
        )
        for _ in range(3):
            await linked.talk_both_ways()
    assert {row["status"] for _, row in watched.seen} == {"connected"}
    [after] = rows(service, "whatsapp_baileys_sessions", integration_account_id=linked.account)
    assert (after["lease_owner"], after["lease_epoch"]) == (
        before["lease_owner"],
        before["lease_epoch"],
    )


async def log_of(bridge: BridgeProcess) -> str:
    return bridge.log


async def session_files(bridge: BridgeProcess) -> list[Path]:
    return list((bridge.disk / "sessions").glob("*.db"))


async def test_a_new_host_gets_its_share_of_accounts_that_run_already(
    first: BridgeProcess,
    linked: Linked,
    frontend: Frontend,
    simulator: Any,
    shared_environment: dict[str, str],
    tmp_path: Path,
    service: httpx.Client,
) -> None:
    others = [await link(frontend, simulator) for _ in range(2)]
    with running_bridge(shared_environment, tmp_path / "second") as second:
        await until(
            lambda: shares(service),
            lambda counts: sorted(counts.values()) == [1, 2],
            within_s=60,
        )
        for each in (linked, *others):
            await frontend.until_account(each.account, "connected")
            await each.talk_both_ways()
        assert sorted((await shares(service)).values()) == [1, 2]
        assert worker_of(second) in await shares(service)


async def shares(service: httpx.Client) -> dict[str, int]:
    counts: dict[str, int] = {}
    for session in rows(service, "whatsapp_baileys_sessions"):
        if session["lease_owner"]:
            counts[session["lease_owner"]] = counts.get(session["lease_owner"], 0) + 1
    return counts
