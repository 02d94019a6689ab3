"""Strict mode: nothing is told to WhatsApp before it cannot be lost."""

import dataclasses
import os
import signal
import sqlite3
import sys
from pathlib import Path

import anyio
import pytest

from bridge import events as ev
from bridge.engine import checkpoint
from bridge.engine.files import USE_LOCAL
from bridge.engine.strict import CHECKPOINT_PURPOSE
from bridge.ids import LeaseEpoch, SpoolPosition
from bridge.orders import Text
from bridge.vault import AccountVault
from tests.integration.engine.driver import Place, call, command, linked, opened, phone_jid
from tests.integration.engine.strict_kills import kill_often
from tests.integration.engine.test_crashes import _run_parent, both_ways

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

KILLS = 12


def kept(place, account) -> Path:
    return place.settings.state_dir / "accounts" / account / "checkpoint"


async def test_a_strict_session_talks_both_ways_and_keeps_a_checkpoint(
    place, phones, vault, account, owner, ana
):
    sealer = AccountVault(vault.keys_of(account, purpose=CHECKPOINT_PURPOSE))
    async with (
        place.host() as host,
        linked(host, account, vault, phones, owner, strict=True) as drive,
    ):
        for index in range(3):
            await both_ways(drive, phones, owner, ana, index)
        kinds = [type(each.event).__name__ for each in drive.deliveries]
        assert kinds.count("SendReleased") == kinds.count("SendSucceeded") == 3
        assert "EngineAlarm" not in kinds
        image = await anyio.to_thread.run_sync(checkpoint.load, kept(place, account), sealer)
        assert image is not None
        database = sqlite3.connect(":memory:")
        database.deserialize(image)
        (sessions,) = database.execute("select count(*) from whatsmeow_sessions").fetchone()
        assert sessions > 0
        database.close()


async def test_kills_under_traffic_lose_nothing_and_double_nothing(place, phones):
    found = await kill_often(
        place.settings, phones, kills=KILLS, seed=7, life_s=1.5, in_pause_s=0.1
    )

    assert found.kills == KILLS
    assert found.sent_in > 100
    assert found.asked_out > KILLS
    assert (found.lost_in, found.lost_out, found.doubled_out, found.unknown) == (0, 0, 0, 0)
    assert found.undecryptable_in == 0
    assert found.rescued == 0


async def test_a_checkpoint_takes_the_place_of_what_was_never_told(
    place, phones, vault, account, owner, ana
):
    """The engine is stopped with a message in its state whose receipt is held: it comes again."""
    async with place.host() as host:
        async with linked(host, account, vault, phones, owner, strict=True) as drive:
            await both_ways(drive, phones, owner, ana, "before")
            database = place.settings.session_dir / f"{account}.db"
            # no checkpoint can be made: the parent is too slow
            drive.session.committer.take = lambda _: None
            await call(phones.send_text, ana, owner, "held")
            await drive.text("held")
            sending = command()
            await drive.session.send(sending, phone_jid(ana), Text(text="never left"))
            await drive.event(ev.SendStarted, lambda each: each.command_id == sending)
            os.kill(drive.engine_pid, signal.SIGKILL)
            await drive.until(lambda: drive.died)
        ahead = database.read_bytes()
        async with opened(host, account, vault, epoch=2, image=USE_LOCAL, strict=True) as drive:
            assert database.read_bytes() != ahead
            failed = await drive.event(ev.SendFailed, lambda each: each.command_id == sending)
            assert failed.retryable
            assert not failed.outcome_unknown
            await drive.text("held")  # once more: WhatsApp was never told that it came
            await both_ways(drive, phones, owner, ana, "after")
    texts = [entry.get("text") for entry in await call(phones.inbox, ana)]
    assert "never left" not in texts


async def test_after_strict_mode_was_turned_off_its_checkpoint_is_used_once(
    place, phones, vault, account, owner, ana
):
    async with place.host() as host:
        async with linked(host, account, vault, phones, owner, strict=True) as drive:
            await both_ways(drive, phones, owner, ana, "strict")
            os.kill(drive.engine_pid, signal.SIGKILL)
            await drive.until(lambda: drive.died)
        assert kept(place, account).is_file()
        async with opened(host, account, vault, epoch=2, image=USE_LOCAL) as drive:
            assert not kept(place, account).exists()
            await both_ways(drive, phones, owner, ana, "standard")
            assert not any(isinstance(each.event, ev.SendReleased) for each in drive.deliveries)


async def test_a_damaged_checkpoint_is_not_used(place, phones, vault, account, owner, ana):
    async with place.host() as host:
        async with linked(host, account, vault, phones, owner, strict=True) as drive:
            await both_ways(drive, phones, owner, ana, "before")
            os.kill(drive.engine_pid, signal.SIGKILL)
            await drive.until(lambda: drive.died)
        whole = kept(place, account).read_bytes()
        kept(place, account).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        database = place.settings.session_dir / f"{account}.db"
        live = database.read_bytes()
        database.unlink()
        with pytest.raises(checkpoint.CheckpointUnusable):
            await host.open(account, LeaseEpoch(2), vault=vault, image=USE_LOCAL, strict=True)
        database.write_bytes(live)
        async with opened(host, account, vault, epoch=2, image=USE_LOCAL, strict=True) as drive:
            await both_ways(drive, phones, owner, ana, "after")


async def test_what_is_forgotten_leaves_no_checkpoint(place, phones, vault, account, owner, ana):
    async with place.host() as host:
        async with linked(host, account, vault, phones, owner, strict=True) as drive:
            await both_ways(drive, phones, owner, ana, "once")
        assert kept(place, account).is_file()
        await host.forget(account)
        assert not kept(place, account).exists()


async def test_an_engine_whose_log_says_nothing_is_not_trusted(
    place, phones, vault, account, owner, ana
):
    engine = str(Path(__file__).with_name("mute_engine.py"))
    settings = dataclasses.replace(
        place.settings, command=[sys.executable, engine, place.settings.command[-1]]
    )
    async with (
        Place(settings).host() as host,
        linked(host, account, vault, phones, owner, strict=True) as drive,
    ):
        alarm = await drive.event(ev.EngineAlarm)
        assert alarm.code == "strict_unavailable"
        await both_ways(drive, phones, owner, ana, "in standard mode")
        started = [e.event for e in drive.deliveries if isinstance(e.event, ev.SendStarted)]
        assert [each.held for each in started] == [False]
        assert not kept(place, account).exists()


async def test_a_disk_that_takes_no_checkpoint_ends_the_session_and_tells_nothing(
    place, phones, vault, account, owner, ana
):
    async with (
        place.host() as host,
        linked(host, account, vault, phones, owner, strict=True) as drive,
    ):
        await both_ways(drive, phones, owner, ana, "before")

        def full(_change):
            raise OSError(28, "No space left on device")

        drive.session.committer._kept.append = full
        sending = command()
        await drive.session.send(sending, phone_jid(ana), Text(text="never left"))
        ended = await drive.until(
            lambda: next((s for s in drive.signals if isinstance(s, ev.SessionEnded)), None),
            timeout_s=40,
        )
        assert ended.code == "connect_failure"
        failed = await drive.event(ev.SendFailed, lambda each: each.command_id == sending)
        assert failed.retryable
    texts = [entry.get("text") for entry in await call(phones.inbox, ana)]
    assert "never left" not in texts


@pytest.mark.parametrize("victims", ["parent", "parent and engine"])
async def test_a_kill_of_the_parent_loses_nothing(
    place, phones, vault, account, owner, ana, victims
):
    parent = await anyio.to_thread.run_sync(_run_parent, place, account, "strict")
    assert parent.stdout is not None
    try:
        qr, engine = (await call(parent.stdout.readline)).decode().split()
        await call(phones.scan, owner, qr)
        assert (await call(parent.stdout.readline)).strip() == b"connected"
        for index in range(40):
            await call(phones.send_text, ana, owner, f"burst {index}")
    finally:
        if victims != "parent":
            os.kill(int(engine), signal.SIGKILL)
        parent.kill()
        await call(parent.wait)
        parent.stdout.close()
    with anyio.fail_after(20):
        while Path(f"/proc/{engine}").exists():
            await anyio.sleep(0.02)
    assert kept(place, account).is_file()

    async with (
        place.host() as host,
        opened(host, account, vault, epoch=2, image=USE_LOCAL, strict=True) as drive,
    ):
        assert await drive.session.replayed() > SpoolPosition(0)
        await drive.until(lambda: {f"burst {index}" for index in range(40)} <= set(drive.texts))
        await both_ways(drive, phones, owner, ana, "again")
        undecryptable = [
            each for each in drive.deliveries if isinstance(each.event, ev.MessageUndecryptable)
        ]
        assert not undecryptable
