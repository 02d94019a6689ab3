"""One function a fault: do it, undo it if it lasts, see the service recover, say how.

Each runs while texts flow both ways on every account. What a fault must not do beside losing or
doubling texts (write under a lost lease, destroy a session) is asserted where it is injected.
"""

from __future__ import annotations

import contextlib
import random
import resource
import signal
import struct
import time
import zlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import psutil
from psycopg.types.json import Jsonb

from tests.faults.plan import Fault
from tests.faults.world import Row, World

FAULTS: list[Fault] = []
Inject = Callable[[World, random.Random], Awaitable[str]]
OVER_THE_LEASE_S = 2.0
"""So much longer than the lease lasts what is to outlast it."""
CLOSING_S = 1.0
"""A host that knows it lost an account closes the session within this."""
KILLED_IN_A_BURST = 3
"""Standard durability: what one `kill -9` of an engine may cost at most (docs/faults.md)."""


def fault(
    name: str,
    *,
    may_lose: int = 0,
    may_refuse: bool = False,
    may_misplace: bool = False,
    settled: bool = False,
    short: bool = False,
) -> Callable[[Inject], Inject]:
    """Put it on the list."""

    def add(inject: Inject) -> Inject:
        FAULTS.append(Fault(name, inject, may_lose, may_refuse, may_misplace, settled, short))
        return inject

    return add


# ------------------------------------------------------------------------------- processes


@fault("kill -9 of an engine", may_lose=KILLED_IN_A_BURST, settled=True)
async def kill_engine(world: World, dice: random.Random) -> str:
    engine = dice.choice(world.engines(world.host))
    engine.kill()
    await world.until_flowing()
    assert engine.pid not in {each.pid for each in world.engines(world.host)}
    return "the parent starts a new engine"


@fault("kill -9 of the parent")
async def kill_parent(world: World, dice: random.Random) -> str:
    engines = world.host.engines()
    await world.sync(world.host.stop, signal.SIGKILL)
    assert psutil.wait_procs(engines, timeout=15)[1] == [], "an engine outlived its parent"
    await anyio.sleep(dice.uniform(0, 1))
    world.host.start()
    await world.until_flowing()
    return "the process supervisor starts it again"


@fault("kill -9 of parent and engines", may_lose=KILLED_IN_A_BURST, short=True)
async def kill_both(world: World, dice: random.Random) -> str:
    assert world.host.process is not None
    engines = world.engines(world.host)
    for victim in dice.sample([*engines, psutil.Process(world.host.process.pid)], len(engines) + 1):
        victim.kill()
    await world.sync(world.host.process.wait, 10)
    await anyio.sleep(dice.uniform(0, 1))
    world.host.start()
    await world.until_flowing()
    return "the process supervisor starts it again"


async def _freeze(world: World, *, engines: bool) -> str:
    async with world.second_host() as other:
        ours = world.worker(world.host)
        lost_before = world.host.log.count("not ours any more")
        pids = world.tree(world.host)
        with world.frozen(pids if engines else pids[:1]):
            await world.until_held_by(world.worker(other))
            await world.until_flowing()
        await world.until_logged(world.host, "not ours any more", times=lost_before + 1)
        thawed_at = time.time()
        await world.until_flowing(after=thawed_at)
        await world.until_recorded(before=thawed_at)
    await world.until_held_by(ours)
    await world.until_flowing()
    return "another host takes over; the frozen one is fenced"


@fault("a whole host frozen for longer than its lease, another takes over", may_misplace=True)
async def freeze_host(world: World, dice: random.Random) -> str:
    return await _freeze(world, engines=True)


@fault("a parent frozen for longer than its lease, another host takes over", may_misplace=True)
async def freeze_parent(world: World, dice: random.Random) -> str:
    return await _freeze(world, engines=False)


@fault("an engine frozen for three seconds")
async def freeze_engine(world: World, dice: random.Random) -> str:
    with world.frozen([dice.choice(world.engines(world.host)).pid]):
        await anyio.sleep(3)
    await world.until_flowing()
    return "by itself"


@fault("an account given to another host by force", short=True)
async def steal_lease(world: World, dice: random.Random) -> str:
    """The lease row is edited: who held it writes nothing of its own from then on.

    Facts that it was told before may still come (`bridge_record_late`): WhatsApp tells them once.
    """
    account = dice.choice(world.accounts)
    owner, epoch_before = await _lease(world, account)
    nobody_s = world.size.lease_s + OVER_THE_LEASE_S
    lost_before = world.host.log.count("not ours any more")
    await world.rows(
        "update whatsapp_baileys_sessions set lease_epoch = lease_epoch + 1,"
        " lease_owner = gen_random_uuid(),"
        " lease_expires_at = clock_timestamp() + make_interval(secs => %s)"
        " where integration_account_id = %s",
        nobody_s,
        account,
    )
    before = await _written_by_its_holder(world, account)
    free_at = time.monotonic() + nobody_s
    await world.until_logged(world.host, "not ours any more", times=lost_before + 1)
    closed_at = time.time() + CLOSING_S
    await anyio.sleep(max(0, free_at - 1 - time.monotonic()))
    assert await _written_by_its_holder(world, account) == before, "a fenced host wrote"
    assert await _told_since(world, account, closed_at) == 0, "a fenced host kept its session"
    await world.until_held_by(owner, [account])
    assert (await _lease(world, account))[1] == epoch_before + 2
    await world.until_flowing()
    return "the forced lease runs out, and the host takes the account again"


async def _lease(world: World, account: str) -> tuple[str, int]:
    [row] = await world.rows(
        "select lease_owner::text as owner, lease_epoch from whatsapp_baileys_sessions"
        " where integration_account_id = %s",
        account,
    )
    return row["owner"], row["lease_epoch"]


async def _written_by_its_holder(world: World, account: str) -> list[Row]:
    """A fingerprint of what only the holder of the lease writes."""
    return await world.rows(
        "select account.status, account.status_reason, account.updated_at, session.generation,"
        " md5(session.auth_state::text) as auth_state, ("
        "  select count(*) from commands where integration_account_id = account.id"
        "   and status <> 'pending') as commands"
        " from integration_accounts as account join whatsapp_baileys_sessions as session"
        "  on session.integration_account_id = account.id where account.id = %s",
        account,
    )


async def _told_since(world: World, account: str, since: float) -> int:
    """How many messages that WhatsApp carried after this time (Unix seconds) are recorded."""
    [row] = await world.rows(
        "select count(*) as messages from messages"
        " where integration_account_id = %s and sent_at > to_timestamp(%s) and not from_me",
        account,
        since,
    )
    return int(row["messages"])


# ------------------------------------------------------------------------------- Supabase


@fault("PostgreSQL restarted")
async def restart_database(world: World, dice: random.Random) -> str:
    await world.sync(world.stack.faults.stop_database)
    await world.sync(world.stack.faults.start_database)
    await world.until_flowing()
    return "by itself"


@fault("PostgreSQL down for longer than the lease", short=True)
async def database_down(world: World, dice: random.Random) -> str:
    await world.sync(world.stack.faults.stop_database)
    try:
        await anyio.sleep(world.size.lease_s + OVER_THE_LEASE_S)
    finally:
        await world.sync(world.stack.faults.start_database)
    await world.until_flowing()
    return "by itself; events waited in the journal and at WhatsApp"


@fault("PostgreSQL hangs for longer than the lease")
async def database_hangs(world: World, dice: random.Random) -> str:
    with world.frozen(world.postgres_pids()):
        await anyio.sleep(world.size.lease_s + OVER_THE_LEASE_S)
    await world.until_flowing()
    return "by itself; events waited in the journal and at WhatsApp"


@fault("PostgreSQL down for longer than the lease, with two hosts")
async def database_down_two_hosts(world: World, dice: random.Random) -> str:
    async with world.second_host():
        await database_down(world, dice)
        await world.until_recorded(before=time.time())
    await world.until_held_by(world.worker(world.host))
    await world.until_flowing()
    return "the hosts that held the accounts get them back"


async def _gateway(world: World, for_s: float) -> str:
    await anyio.sleep(for_s)
    await world.until_flowing()
    return "by itself"


@fault("gateway answers 500")
async def gateway_500(world: World, dice: random.Random) -> str:
    world.stack.faults.answer(500, for_s=3)
    return await _gateway(world, 3)


@fault("gateway answers 429")
async def gateway_429(world: World, dice: random.Random) -> str:
    world.stack.faults.answer(429, for_s=3)
    return await _gateway(world, 3)


@fault("gateway hangs for longer than the lease")
async def gateway_hangs(world: World, dice: random.Random) -> str:
    for_s = world.size.lease_s + OVER_THE_LEASE_S
    world.stack.faults.hang(for_s=for_s)
    return await _gateway(world, for_s)


@fault("gateway does it and cuts its answer", short=True)
async def gateway_cuts(world: World, dice: random.Random) -> str:
    world.stack.faults.cut(for_s=3)
    return await _gateway(world, 3)


@fault("Realtime cut")
async def realtime_cut(world: World, dice: random.Random) -> str:
    rings = world.host.log.count("Realtime rings")
    world.stack.faults.cut_realtime()
    await world.until_logged(world.host, "Realtime rings", times=rings + 1)
    await world.until_flowing()
    return "the watchdog subscribes anew"


@fault("Realtime silent")
async def realtime_silent(world: World, dice: random.Random) -> str:
    unheard = "commands came without a ring"
    times = world.host.log.count(unheard)
    world.stack.faults.realtime_deaf()
    try:
        await world.until_logged(world.host, unheard, times=times + 1)
        await world.until_flowing()
    finally:
        world.stack.faults.realtime_on()
    await world.until_flowing()
    return "commands are polled, and the watchdog subscribes anew"


@fault("Realtime says everything twice")
async def realtime_replays(world: World, dice: random.Random) -> str:
    world.stack.faults.realtime_repeating()
    await anyio.sleep(3)
    world.stack.faults.realtime_on()
    await world.until_flowing()
    return "nothing to recover: a ring is a hint"


@fault("Storage down while texts go on")
async def storage_down(world: World, dice: random.Random) -> str:
    chat = dice.choice(world.chats)
    number = world.shop_of(chat.account).number
    world.stack.faults.answer(503, for_s=60, prefix="/storage/v1")
    try:
        await world.sync(
            lambda: world.simulator.send_media(
                *(chat.customer, number, "document", dice.randbytes(5000)),
                mime_type="application/octet-stream",
                file_name=f"{dice.getrandbits(32)}.bin",
            )
        )
        await world.until_flowing()
        await anyio.sleep(2)
        await world.until_flowing()
        [waiting] = await _newest_file(world, chat.account)
        assert waiting["status"] == "pending", waiting
    finally:
        world.stack.faults.heal()

    async def stored() -> bool:
        [file] = await _newest_file(world, chat.account)
        return bool(file["status"] == "stored")

    await world.until(stored, "the file is stored")
    return "texts do not wait; the file is stored later"


async def _newest_file(world: World, account: str) -> list[Row]:
    return await world.rows(
        "select file.status, file.error from attachments as file"
        " join messages as message on message.id = file.message_id"
        " where message.integration_account_id = %s order by message.seq desc limit 1",
        account,
    )


# ------------------------------------------------------------------------------- WhatsApp


@fault("WhatsApp drops all connections")
async def whatsapp_drops(world: World, dice: random.Random) -> str:
    for _ in range(3):
        await world.sync(lambda: world.simulator.start_fault("drop"))
        await anyio.sleep(dice.uniform(0.1, 1))
    await world.until_flowing()
    return "the engine connects again"


@fault("WhatsApp replaces a stream", may_refuse=True)
async def whatsapp_replaces(world: World, dice: random.Random) -> str:
    account = dice.choice(world.accounts)
    number = world.shop_of(account).number
    await world.sync(lambda: world.simulator.start_fault("replace", number=number))
    await _until_status(world, account, "error", "replaced")
    await _others_go_on(world, account)
    await world.frontend.insert_command(account, "connect", {"method": "qr"})
    await world.until_flowing()
    return "a person connects again"


@fault("WhatsApp unavailable (503)")
async def whatsapp_unavailable(world: World, dice: random.Random) -> str:
    await world.sync(lambda: world.simulator.start_fault("service_unavailable", for_s=3))
    await anyio.sleep(3)
    await world.until_flowing()
    return "the engine, then the parent's backoff"


@fault("WhatsApp slow (0.5 s a stanza)")
async def whatsapp_slow(world: World, dice: random.Random) -> str:
    await world.sync(lambda: world.simulator.start_fault("slow", for_s=4, delay_s=0.5))
    await anyio.sleep(4)
    await world.until_flowing()
    return "by itself"


@fault("WhatsApp silent")
async def whatsapp_silent(world: World, dice: random.Random) -> str:
    await world.sync(lambda: world.simulator.start_fault("deaf", for_s=4))
    await anyio.sleep(4)
    await world.until_flowing()
    return "the engine connects again"


async def _until_status(world: World, account: str, status: str, reason: str) -> Row:
    async def is_so() -> bool:
        face = (await world.faces())[account]
        return (face["status"], face["status_reason"]) == (status, reason)

    await world.until(is_so, f"the account is {status} ({reason})")
    return (await world.faces())[account]


async def _others_go_on(world: World, account: str) -> None:
    """Every other account records something new."""
    since = time.time()

    async def go_on() -> bool:
        found = await world.rows(
            "select distinct integration_account_id::text as id from messages"
            " where not from_me and created_at > to_timestamp(%s)",
            since,
        )
        return {*world.accounts} - {account} <= {row["id"] for row in found}

    await world.until(go_on, "the other accounts go on")


# ------------------------------------------------------------------------------- disks and keys


@fault("disk full", short=True)
async def disk_full(world: World, dice: random.Random) -> str:
    complaints = world.host.log.count("disk_full")
    with _no_room(world) as how:
        # a full disk may be seen by the engine that writes, or by the parent that looks
        await world.until_logged(world.host, "disk_full", times=complaints + 1)
        await anyio.sleep(dice.uniform(1, 3))
    await world.until_flowing()
    return f"by itself, when there is room ({how})"


@contextmanager
def _no_room(world: World) -> Iterator[str]:
    """A full file system if the world has one that is small, else a quota on the engines."""
    if world.disk_is_small:
        filler = world.host.state_dir / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
        with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0")
        try:
            yield "tmpfs"
        finally:
            filler.unlink()
        return
    engines = world.engines(world.host)
    before = {each: each.rlimit(resource.RLIMIT_FSIZE) for each in engines}
    for engine in engines:
        engine.rlimit(resource.RLIMIT_FSIZE, (1, before[engine][1]))
    try:
        yield "RLIMIT_FSIZE"
    finally:
        for engine in engines:
            engine.rlimit(resource.RLIMIT_FSIZE, before[engine])


@fault("journal ends in the middle of a record")
async def torn_spool(world: World, dice: random.Random) -> str:
    """What a power cut or a kill leaves of the record that was being written."""
    world.stack.faults.answer(503, for_s=60)  # so that the journals hold something
    try:
        await anyio.sleep(1.5)
        engines = world.host.engines()
        await world.sync(world.host.stop, signal.SIGKILL)
        assert psutil.wait_procs(engines, timeout=15)[1] == []
        account = dice.choice(world.accounts)
        newest = max((world.host.state_dir / "accounts" / account / "spool").glob("*.spool"))
        size = newest.stat().st_size
        with newest.open("ab") as file:
            file.write(_half_a_record(newest, dice))
        world.host.start()
    finally:
        world.stack.faults.heal()
    await world.until_flowing()
    assert not newest.exists() or newest.read_bytes()[:size], "the journal was thrown away"
    return "the torn end is cut off, the rest is recorded"


def _half_a_record(segment: Path, dice: random.Random) -> bytes:
    """The beginning of the record that would come next (format: `bridge.engine.segments`)."""
    data = segment.read_bytes()
    offset, position = 8 + 1 + data[8], int(segment.stem)
    while offset + 8 <= len(data):
        offset += 8 + int(struct.unpack_from(">I", data, offset)[0])
        position += 1
    size = dice.randrange(100, 500)
    head = struct.pack(">II", size, zlib.crc32(struct.pack(">IQ", size, position)))
    return (head + dice.randbytes(size))[: dice.randrange(1, size)]


@fault("auth_state tampered with", may_refuse=True)
async def tampered_state(world: World, dice: random.Random) -> str:
    account = dice.choice(world.accounts)
    with world.frozen(world.tree(world.host)[:1]):  # or the parent could save over it
        [row] = await world.rows(
            "select auth_state from whatsapp_baileys_sessions where integration_account_id = %s",
            account,
        )
        intact = row["auth_state"]
        spoilt = intact | {"data": _flipped(intact["data"], dice)}
        await _put_state(world, account, spoilt)
        for engine in world.engines(world.host):
            engine.kill()
    face = await _until_status(world, account, "error", "auth_state_corrupt")
    assert face["next_action"] == "relink", face
    await _others_go_on(world, account)
    [row] = await world.rows(
        "select auth_state, desired from whatsapp_baileys_sessions"
        " where integration_account_id = %s",
        account,
    )
    assert row == {"auth_state": spoilt, "desired": "running"}, "something was destroyed"
    await _put_state(world, account, intact)
    await world.frontend.insert_command(account, "connect", {"method": "qr"})
    await world.until_flowing()
    return "a person restores the row and connects; the others never stopped"


def _flipped(text: str, dice: random.Random) -> str:
    place = dice.randrange(len(text) // 2)
    return text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]


async def _put_state(world: World, account: str, state: Row) -> None:
    await world.rows(
        "update whatsapp_baileys_sessions set auth_state = %s where integration_account_id = %s",
        Jsonb(state),
        account,
    )


__all__ = ["FAULTS"]
