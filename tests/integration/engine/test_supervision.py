"""Engines that hang, grow, wear out or are killed by an account: what the others notice of it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from bridge import events as ev
from bridge.engine import process
from bridge.engine.files import USE_LOCAL
from bridge.engine.host import EngineHost
from bridge.engine.quarantine import EngineKeepsDying
from bridge.engine.session import EngineDied
from bridge.ids import AccountId, LeaseEpoch
from tests.integration.engine.driver import Driven, call, driven, linked, opened

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

# The engine of the tests, which grows by 200 MB when it is told to, and dies by a signal a moment
# after the account that FILE names was opened in it.
HOOKED = """
import os, signal, sys, threading
from pathlib import Path
grown = []
signal.signal(signal.SIGUSR1, lambda *_: grown.append(b"x" * (200 << 20)))
from bridge.engine.child_session import Session
poison = Path(sys.argv[1])
def connect(self, connect=Session._connect):
    connect(self)
    if poison.exists() and poison.read_text() in self._order.database:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGKILL)).start()
Session._connect = connect
from bridge.sandbox import engine
sys.exit(engine.main(sys.argv[2:]))
"""


@pytest.fixture
def hooked(place, tmp_path):
    """Settings of an engine with hooks; `tmp_path / "poison"` names the account that kills."""
    command = [sys.executable, "-c", HOOKED, str(tmp_path / "poison"), place.settings.command[-1]]
    return {"command": command, "spare_after_s": 0.0, "ping_interval_s": 0.2}


async def until(look: Callable[[], object], *, within_s: float = 30) -> None:
    with anyio.fail_after(within_s):
        while not look():
            await anyio.sleep(0.02)


async def hear(drive: Driven, phones, sender: str, owner: str, mark: str) -> float:
    """A message arrives; returns how long it took."""
    begun = time.monotonic()
    await call(phones.send_text, sender, owner, mark)
    await drive.text(mark)
    return time.monotonic() - begun


async def test_an_engine_that_a_signal_stopped_is_replaced_within_seconds(
    place, phones, vault, account, owner, ana
):
    async with place.host() as host:  # with the settings that everybody has
        async with linked(host, account, vault, phones, owner) as drive:
            stopped = drive.engine_pid
            os.kill(stopped, signal.SIGSTOP)
            begun = time.monotonic()
            await drive.until(lambda: drive.died)
            took_s = time.monotonic() - begun
        async with opened(host, account, vault, epoch=2, image=USE_LOCAL) as drive:
            await drive.signal(ev.Connected)
            assert drive.engine_pid != stopped
            await hear(drive, phones, ana, owner, "after the stop")
    assert took_s < 10


async def test_the_accounts_of_an_engine_that_grew_move_to_a_fresh_one(
    place, phones, vault, owner, ana, hooked
):
    settings = {**hooked, "memory_max_bytes": 250 << 20, "least_age_s": 0.0}
    async with place.host(**settings) as host:
        async with (
            linked(host, "one", vault, phones, owner) as one,
            linked(host, "two", vault, phones, ana) as two,
        ):
            grown = one.engine_pid
            assert two.engine_pid == grown
            os.kill(grown, signal.SIGUSR1)
            moving = [(one, "one"), (two, "two")]
            order = []
            for _ in range(2):
                # one after the other: the second is told when the first has left
                told = await until_one_is_told(moving)
                moving.remove(told)
                order.append(told[1])
                assert not told[0].died
                await told[0].session.aclose()
        assert sorted(order) == ["one", "two"]
        await until(lambda: not Path(f"/proc/{grown}").exists())
        async with (
            opened(host, "one", vault, epoch=2, image=USE_LOCAL) as one,
            opened(host, "two", vault, epoch=2, image=USE_LOCAL) as two,
        ):
            assert one.engine_pid == two.engine_pid != grown
            await hear(one, phones, ana, owner, "to one")
            await hear(two, phones, owner, ana, "to two")


async def until_one_is_told(moving: list[tuple[Driven, str]]) -> tuple[Driven, str]:
    def told() -> list[tuple[Driven, str]]:
        return [each for each in moving if ev.SessionEnded(code="stopped") in each[0].signals]

    await until(told)
    assert len(told()) == 1
    return told()[0]


async def test_an_engine_that_takes_far_too_much_memory_is_killed(
    place, phones, vault, account, owner, ana, hooked
):
    async with place.host(**hooked, memory_max_bytes=130 << 20) as host:
        async with linked(host, account, vault, phones, owner) as drive:
            os.kill(drive.engine_pid, signal.SIGUSR1)
            await drive.until(lambda: drive.died)
        async with opened(host, account, vault, epoch=2, image=USE_LOCAL) as drive:
            await hear(drive, phones, ana, owner, "in a fresh one")


async def test_accounts_leave_a_worn_out_engine_politely(
    place, phones, vault, account, owner, ana, hooked, monkeypatch
):
    monkeypatch.setattr(process, "WORN_OUT", 2)
    async with place.host(**hooked) as host:
        # each closed session leaves a file open in its engine
        async with linked(host, account, vault, phones, owner) as drive:
            worn = drive.engine_pid
        async with opened(host, account, vault, epoch=2, image=USE_LOCAL) as drive:
            await drive.signal(ev.Connected)
            assert drive.engine_pid == worn
        await until(lambda: not Path(f"/proc/{worn}").exists())
        async with opened(host, account, vault, epoch=3, image=USE_LOCAL) as drive:
            await hear(drive, phones, ana, owner, "elsewhere")
            assert drive.engine_pid != worn


async def test_an_account_that_kills_its_engine_is_isolated_then_refused_and_others_live_on(
    place, phones, vault, owner, ana, tmp_path, hooked
):
    deaths = {"good": 0, "poison": 0}
    refused = anyio.Event()

    async def keep(host: EngineHost, name: AccountId) -> None:
        """As an account does: open again when the engine has died."""
        for epoch in range(2, 100):
            try:
                session = await host.open(name, LeaseEpoch(epoch), vault=vault, image=USE_LOCAL)
            except EngineKeepsDying:
                refused.set()
                return
            except EngineDied:
                deaths[name] += 1
                continue
            async with driven(session) as drive:
                current[name] = drive
                await until(lambda: drive.died, within_s=120)
            deaths[name] += 1

    current: dict[str, Driven] = {}
    async with place.host(**hooked, accounts_per_engine=4) as host:
        async with (
            linked(host, "good", vault, phones, owner) as good,
            linked(host, "poison", vault, phones, ana) as poison,
        ):
            assert good.engine_pid == poison.engine_pid
        (tmp_path / "poison").write_text("poison")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(keep, host, AccountId("good"))
            tasks.start_soon(keep, host, AccountId("poison"))
            with anyio.fail_after(120):
                await refused.wait()
            told = deaths["good"]
            # it lives, in an engine that was never the poison's since it was isolated
            await hear(current["good"], phones, ana, owner, "still there")
            assert deaths["good"] == told
            tasks.cancel_scope.cancel()
    assert deaths["poison"] >= 5
    assert deaths["good"] <= 2


async def test_the_death_of_another_engine_delays_nobody_by_a_tenth_of_a_second(
    place, phones, vault, owner, ana
):
    async with (
        place.host(accounts_per_engine=1) as host,
        linked(host, "one", vault, phones, owner) as one,
        linked(host, "two", vault, phones, ana) as two,
    ):
        before = [await hear(two, phones, owner, ana, f"before {number}") for number in range(20)]
        os.kill(one.engine_pid, signal.SIGKILL)
        after = [await hear(two, phones, owner, ana, f"after {number}") for number in range(20)]
        assert one.died
    print(f"before {max(before) * 1000:.0f} ms, after {max(after) * 1000:.0f} ms")
    assert sorted(after)[10] - sorted(before)[10] < 0.1
