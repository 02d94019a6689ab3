"""Traffic: what must hold when much happens at once."""

import functools

import anyio
import pytest
from loguru import logger

from bridge import events as ev
from tests.fixtures.simulator import fresh_number
from tests.integration.engine.driver import call, linked

pytestmark = pytest.mark.anyio


def more_than(drive, seen):
    return len(drive.deliveries) > seen


@pytest.fixture
def complaints():
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line)), format="{message} {extra}")
    yield lines
    logger.remove(sink)


async def test_copying_the_state_all_the_time_never_locks_the_engine_out(
    place, phones, vault, account, owner, ana, complaints
):
    async def copy(replica):
        while True:
            change = await replica.snapshot_if_changed()
            if change is not None:
                copies.append(len(change.data))
                replica.acknowledge(change)

    copies: list[int] = []
    async with (
        place.host() as host,
        linked(host, account, vault, phones, owner) as drive,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(copy, drive.session.replica)
        for index in range(100):
            await call(phones.send_text, ana, owner, f"in {index}")
            if index % 5 == 0:
                await drive.send(ana, f"out {index}")
        await drive.text("in 99")
        tasks.cancel_scope.cancel()
    assert len(copies) > 20
    assert drive.texts == [f"in {index}" for index in range(100)]
    assert not [line for line in complaints if "database_locked" in line]


async def test_both_directions_of_one_chat_at_once_decrypt(
    place, phones, vault, account, owner, ana
):
    async def write_in():
        for index in range(60):
            await call(phones.send_text, ana, owner, f"in {index}")

    async def write_out():
        for index in range(60):
            await drive.send(ana, f"out {index}")

    async with place.host() as host, linked(host, account, vault, phones, owner) as drive:
        await call(phones.send_text, ana, owner, "first")
        await drive.text("first")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write_in)
            tasks.start_soon(write_out)
        await drive.until(lambda: {f"in {index}" for index in range(60)} <= set(drive.texts))
        undecryptable = [
            each for each in drive.deliveries if isinstance(each.event, ev.MessageUndecryptable)
        ]
        assert len(undecryptable) <= 3  # without turns: a quarter
    entries = await call(phones.inbox, ana)
    got = {entry.get("text") for entry in entries if entry["kind"] == "message"}
    assert {f"out {index}" for index in range(60)} <= got


async def test_a_full_spool_holds_whatsapp_back_and_loses_nothing(
    place, phones, vault, account, owner, ana
):
    async with (
        place.host(spool_max_bytes=2000, window=5) as host,
        linked(host, account, vault, phones, owner, confirming=False) as drive,
    ):
        for index in range(60):
            await call(phones.send_text, ana, owner, f"m{index}")
        await drive.until(lambda: len(drive.deliveries) == 5)
        while len(drive.texts) < 60:
            seen = len(drive.deliveries)
            await drive.session.confirm(drive.deliveries[-1].position)
            await drive.until(functools.partial(more_than, drive, seen))

        assert drive.texts == [f"m{index}" for index in range(60)]


async def test_accounts_that_come_and_go_do_not_disturb_one_that_sends(
    place, phones, vault, account, owner, ana
):
    other = fresh_number()
    await call(phones.add_phone, other, "Other")

    async def come_and_go():
        for _ in range(4):
            async with linked(host, "comes-and-goes", vault, phones, other) as visitor:
                assert visitor.engine_pid == drive.engine_pid

    async with place.host() as host, linked(host, account, vault, phones, owner) as drive:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(come_and_go)
            for index in range(100):
                await drive.send(ana, f"text {index}")
        assert not drive.died
