"""One account, with a session by hand instead of an engine."""

from __future__ import annotations

import dataclasses
import struct
import time
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import anyio
import msgspec
import pytest

from bridge.accounts.account import Account, NotConnected
from bridge.accounts.connect_rate import ConnectRate
from bridge.accounts.ledger import SendLedger
from bridge.accounts.saver import PURPOSE
from bridge.accounts.supervisor import Supervisor
from bridge.accounts.surroundings import Surroundings
from bridge.engine.checkpoint import CheckpointUnusable
from bridge.engine.files import LocalState, UseLocal
from bridge.engine.host import PairByQr
from bridge.engine.quarantine import EngineKeepsDying
from bridge.engine.replica import encode_base
from bridge.engine.session import EngineDied, Stream
from bridge.errors import AccountError, CommandError, LeaseLost
from bridge.events import (
    Connected,
    Disconnected,
    HistoryDelivery,
    PairingFailed,
    PhoneSeen,
    QrShown,
    SessionEnded,
    Signal,
)
from bridge.ids import AccountId, CommandId, Jid, LeaseEpoch, SpoolPosition, WorkerId
from bridge.orders import AskBlocklist, AskChats, Request, Text
from bridge.states import AccountStatus, Desired
from bridge.supabase.answers import (
    Attempt,
    Delta,
    HistoryState,
    Lease,
    PhoneChat,
    Retry,
    Settled,
    StoredSession,
)
from bridge.supabase.client import RequestRefused
from bridge.supabase.rpc import BridgeRpc
from bridge.vault import Vault

pytestmark = pytest.mark.anyio
ACCOUNT = AccountId("a1")
VAULT = Vault.from_secret("s" * 40)
ME = Connected(phone_jid=Jid("5511900000001@s.whatsapp.net"), lid=None)

ATTEMPT = Attempt(1, lambda _code: Retry(2.0))


def image() -> bytes:
    """The smallest thing that `restore` takes for an SQLite file."""
    import sqlite3

    database = sqlite3.connect(":memory:")
    database.execute("create table t (x)")
    return database.serialize()


class FakeReplica:
    async def snapshot_if_changed(self) -> None:
        return None

    def acknowledge(self, change: object) -> None: ...


class FakeSession:
    """Signals are put in by the test."""

    def __init__(self, epoch: LeaseEpoch) -> None:
        self.account = ACCOUNT
        self.epoch = epoch
        self.signals: Stream[Signal] = Stream()
        self.history: Stream[HistoryDelivery] = Stream()
        self.replica = FakeReplica()
        self.sent: list[tuple[str, str]] = []
        self.forgotten = False
        self.extended: list[float] = []
        self.closed = False
        self.leaving = anyio.Event()
        self.may_leave: anyio.Event | None = None

    async def replayed(self) -> SpoolPosition:
        return SpoolPosition(0)

    async def extend_lease(self, ttl_s: float) -> None:
        self.extended.append(ttl_s)

    async def confirm(self, position: SpoolPosition) -> None: ...

    async def send(self, command: CommandId, to: Jid, order: Text) -> None:
        self.sent.append((to, order.text))

    async def ask(self, order: Request) -> Any:
        if isinstance(order, AskBlocklist | AskChats):
            return []
        self.signals.put(SessionEnded(code="logged_out"))
        return None

    async def disconnect(self) -> None:
        self.leaving.set()
        if self.may_leave is not None:
            await self.may_leave.wait()

    async def aclose(self) -> None:
        self.closed = True

    async def forget(self) -> None:
        self.forgotten = True

    def end(self, code: str) -> None:
        self.signals.put(SessionEnded(code=code))


class FakeHost:
    def __init__(self) -> None:
        self.opened: list[tuple[str, object]] = []
        self.sessions: list[FakeSession] = []
        self.faults: list[Exception] = []
        self.local: LocalState | None = None
        self.intact = True
        self.strict: list[bool] = []
        self.history_days: list[int] = []
        self.more = anyio.Event()

    async def open(
        self,
        account: AccountId,
        epoch: LeaseEpoch,
        *,
        vault: Vault,
        image: bytes | UseLocal | None,
        pairing: object = None,
        history_days: int = 14,
        strict: bool = False,
    ) -> FakeSession:
        if self.faults:
            raise self.faults.pop(0)
        self.opened.append((type(image).__name__, pairing))
        self.strict.append(strict)
        self.history_days.append(history_days)
        self.sessions.append(FakeSession(epoch))
        self.more.set()
        return self.sessions[-1]

    async def session(self, number: int) -> FakeSession:
        with anyio.fail_after(20):
            while len(self.sessions) <= number:
                self.more = anyio.Event()
                await self.more.wait()
        return self.sessions[number]

    def local_state(self, account: AccountId) -> LocalState | None:
        return self.local

    async def local_is_intact(self, account: AccountId) -> bool:
        return self.intact

    async def has_unrecorded_events(self, account: AccountId) -> bool:
        return False

    async def forget(self, account: AccountId) -> None: ...


class FakeRpc:
    """The row of the account, and the sealed state."""

    worker = WorkerId("this worker")

    def __init__(self, *, linked: bool) -> None:
        self.row: dict[str, Any] = {}
        self.shown: list[str] = []
        self.told: list[tuple[str, str]] = []
        self.settled: list[object] = []
        self.finished: list[tuple[str, str]] = []
        self.destroyed = 0
        self.reported: list[tuple[str, str]] = []
        self.released: list[AccountId] = []
        self.read_from_phone: list[str] = []
        self.is_behind = False
        self.lost = False
        self.slow: anyio.Event | None = None
        self.changed = anyio.Event()
        self.state: dict[str, Any] | None = None
        self.generation = 1
        self.deltas: list[Delta] = []
        if linked:
            sealed = VAULT.seal(
                encode_base(image()), purpose=PURPOSE, account=ACCOUNT, generation=1
            )
            self.state = sealed.to_json()

    async def update_account(
        self, account: AccountId, epoch: LeaseEpoch, changes: dict[str, Any]
    ) -> None:
        if self.lost:
            raise LeaseLost("gone")
        slow, self.slow = self.slow, None
        if slow is not None:
            await slow.wait()
        self.row |= changes
        if "status_reason" in changes:
            self.shown.append(changes["status_reason"])
            self.told.append((changes["status_reason"], changes["status_detail"]))
        self.changed.set()
        self.changed = anyio.Event()

    async def record_blocklist(
        self, account: AccountId, epoch: LeaseEpoch, people: list[dict[str, Any]]
    ) -> None:
        self.read_from_phone.append("blocklist")

    async def list_chats(self, account: AccountId, epoch: LeaseEpoch) -> list[PhoneChat]:
        self.read_from_phone.append("chats")
        return []

    async def report(self, account: AccountId, level: str, code: str, message: str) -> None:
        self.reported.append((level, code))

    async def release_leases(self, accounts: list[AccountId]) -> None:
        self.released += accounts

    async def until(self, reason: str) -> None:
        with anyio.fail_after(20):
            while self.row.get("status_reason") != reason:
                await self.changed.wait()

    async def load_session(self, account: AccountId, epoch: LeaseEpoch) -> StoredSession:
        return StoredSession(
            generation=self.generation,
            is_behind=self.is_behind,
            auth_state=self.state,
            deltas=self.deltas,
        )

    async def history_state(self, account: object, epoch: object, days: int) -> HistoryState:
        return HistoryState(sync_status="done", sync_progress=100)

    async def begin_history(self, account: object, epoch: object) -> None: ...

    async def destroy_session(
        self, account: AccountId, epoch: LeaseEpoch, changes: dict[str, Any]
    ) -> None:
        await self.update_account(account, epoch, changes | {"desired": "stopped"})
        self.destroyed += 1
        self.state = None
        self.lost = True  # an account that is stopped needs no host: the next look ends its lease

    async def settle_commands(self, account: object, epoch: object, known: object) -> Settled:
        self.settled.append(known)
        return Settled()

    async def finish_command(
        self, account: object, epoch: object, command: str, status: str, **_: Any
    ) -> bool:
        self.finished.append((command, status))
        return True


class World:
    """An account and what surrounds it."""

    def __init__(self, *, linked: bool, desired: Desired) -> None:
        self.rpc = FakeRpc(linked=linked)
        self.host = FakeHost()
        self.ledger = SendLedger()
        self.lease = Lease(
            account_id=ACCOUNT,
            workspace_id="w1",
            lease_epoch=LeaseEpoch(5),
            desired=desired,
            status=AccountStatus.DISCONNECTED,
            has_auth_state=linked,
        )
        self.around = Surroundings(
            rpc=cast("BridgeRpc", self.rpc),
            host=cast("Any", self.host),
            files=cast("Any", self.host),
            vault=VAULT,
            record=cast("Any", self._record),
            seal=lambda _account, media: media,
            files_came=lambda: None,
            ring=lambda: None,
            lost=lambda: None,
            typing=lambda *_: None,
            connect_rate=ConnectRate(1000.0),
        )

    async def _record(self, *_: object, **__: object) -> None:
        return

    def account(self) -> Account:
        return Account(self.around, self.lease, time.monotonic() + 60, self.ledger)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Account]:
        account = self.account()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(account.run)
            yield account
            account.stop()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.supabase.patience.Backoff.next_delay_s", lambda _: 0.01)


async def test_an_account_with_credentials_connects_by_itself() -> None:
    world = World(linked=True, desired=Desired.RUNNING)
    async with world.running():
        (await world.host.session(0)).signals.put(ME)
        await world.rpc.until("connected")
        assert world.rpc.row["numero"] == "+5511900000001"
        assert world.rpc.row["last_qr"] is None
    assert world.host.opened == [("bytes", None)]
    assert world.rpc.shown[-1] == "bridge_stopped"
    assert world.rpc.settled == [None]
    assert world.host.sessions[0].forgotten


async def test_the_file_on_this_disk_is_used_if_nobody_ran_the_account_in_between() -> None:
    world = World(linked=True, desired=Desired.RUNNING)
    world.host.local = LocalState(LeaseEpoch(4))
    async with world.running():
        await world.host.session(0)
    assert world.host.opened == [("UseLocal", None)]
    world.host.local = LocalState(LeaseEpoch(3))
    async with world.running():
        await world.host.session(1)
    assert world.host.opened[1] == ("bytes", None)


async def test_a_damaged_file_on_this_disk_is_not_used_and_the_operator_is_told() -> None:
    world = World(linked=True, desired=Desired.RUNNING)
    world.host.local = LocalState(LeaseEpoch(4))
    world.host.intact = False
    async with world.running():
        await world.host.session(0)
    assert world.host.opened == [("bytes", None)]
    assert world.rpc.reported == [("error", "session_file_damaged")]


async def test_when_the_checkpoint_on_this_disk_is_damaged_the_saved_state_is_used() -> None:
    world = World(linked=True, desired=Desired.RUNNING)
    world.host.local = LocalState(LeaseEpoch(4))
    world.host.faults = [CheckpointUnusable("It is damaged.")]
    async with world.running():
        await world.host.session(0)
    assert world.host.opened == [("bytes", None)]


@pytest.mark.parametrize(("durability", "strict"), [("strict", True), ("standard", False)])
async def test_durability_is_what_the_account_says(durability: str, strict: bool) -> None:
    world = World(linked=True, desired=Desired.RUNNING)
    world.lease = msgspec.structs.replace(world.lease, settings={"durability": durability})
    async with world.running():
        await world.host.session(0)
    assert world.host.strict == [strict]


async def test_a_phone_is_linked_with_the_settings_of_that_moment() -> None:
    world = World(linked=False, desired=Desired.STOPPED)
    async with world.running() as account, anyio.create_task_group() as tasks:
        lease = msgspec.structs.replace(world.lease, settings={"history_days": 90})
        account.renewed(lease, time.monotonic() + 60)
        tasks.start_soon(account.connect, PairByQr())
        (await world.host.session(0)).signals.put(QrShown(text="2@x", valid_s=60))
    assert world.host.history_days == [90]


async def test_what_keeps_a_session_from_being_opened_is_said_as_it_is() -> None:
    world = World(linked=True, desired=Desired.RUNNING)
    sentence = "The spool directory cannot be read or written."
    world.host.faults = [AccountError(sentence, code="spool_unusable")]
    async with world.running():
        await world.host.session(0)
    assert ("connect_failure", sentence) in world.rpc.told


async def test_an_end_that_is_not_whatsapps_is_not_called_its() -> None:
    world = World(linked=True, desired=Desired.RUNNING)
    lost = SessionEnded(code="connect_failure", detail="The engine lost this session.")
    async with world.running():
        (await world.host.session(0)).signals.put(lost)
        await world.host.session(1)
    assert ("connect_failure", lost.detail) in world.rpc.told


async def test_connect_answers_when_the_qr_is_out_and_the_row_has_it() -> None:
    world = World(linked=False, desired=Desired.STOPPED)
    async with world.running() as account, anyio.create_task_group() as tasks:

        async def show() -> None:
            (await world.host.session(0)).signals.put(QrShown(text="2@x", valid_s=60))

        tasks.start_soon(show)
        assert await account.connect(PairByQr()) is AccountStatus.QR_REQUIRED
        assert world.rpc.row["last_qr"].startswith("data:image/png;base64,")
        assert world.rpc.row["desired"] == "running"
        assert await account.connect(PairByQr()) is AccountStatus.QR_REQUIRED
    assert len(world.host.opened) == 1
    assert world.rpc.shown[-1] == "pairing_interrupted"


async def test_a_qr_that_nobody_scans_ends_at_rest() -> None:
    world = World(linked=False, desired=Desired.STOPPED)
    async with world.running() as account, anyio.create_task_group() as tasks:

        async def give_up() -> None:
            (await world.host.session(0)).signals.put(PairingFailed(code="qr_expired"))

        tasks.start_soon(give_up)
        with pytest.raises(CommandError) as caught:
            await account.connect(PairByQr())
        assert caught.value.code == "qr_expired"
        assert (world.rpc.row["desired"], world.rpc.row["last_qr"]) == ("stopped", None)


@pytest.mark.parametrize("code", ["replaced", "banned", "outdated"])
async def test_terminal_ends_wait_for_a_person_and_destroy_nothing(code: str) -> None:
    world = World(linked=True, desired=Desired.RUNNING)
    async with world.running():
        (await world.host.session(0)).signals.put(SessionEnded(code=code, retry_after_s=60))
        await world.rpc.until(code)
        await anyio.wait_all_tasks_blocked()
        assert len(world.host.opened) == 1
        assert world.rpc.destroyed == 0


async def test_a_logout_on_the_phone_destroys_the_credentials() -> None:
    world = World(linked=True, desired=Desired.RUNNING)
    async with world.running():
        (await world.host.session(0)).signals.put(SessionEnded(code="logged_out"))
        await world.rpc.until("logged_out")
    assert world.rpc.destroyed == 1


async def test_a_dead_engine_is_replaced() -> None:
    world = World(linked=True, desired=Desired.RUNNING)
    async with world.running():
        (await world.host.session(0)).signals.fail(EngineDied())
        (await world.host.session(1)).signals.put(ME)
        await world.rpc.until("connected")
    assert world.rpc.shown[:3] == ["starting", "engine_died", "starting"]


async def test_every_connection_reads_the_blocklist_and_the_first_one_the_chats(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bridge.accounts.following.PAUSE_S", 0.0)
    world = World(linked=True, desired=Desired.RUNNING)
    async with world.running():
        signals = (await world.host.session(0)).signals
        for expected in (["blocklist", "chats"], ["blocklist"]):
            world.rpc.read_from_phone.clear()
            signals.put(ME)
            with anyio.fail_after(5):
                while sorted(world.rpc.read_from_phone) != expected:
                    await anyio.wait_all_tasks_blocked()
            signals.put(Disconnected())


def silent(world: World, days: float) -> Lease:
    return msgspec.structs.replace(world.lease, phone_silent_s=days * 86400)


async def test_a_phone_that_stays_away_is_warned_of_until_it_is_seen_again() -> None:
    world = World(linked=True, desired=Desired.RUNNING)
    async with world.running() as account:
        (await world.host.session(0)).signals.put(ME)
        await world.rpc.until("connected")
        for days in (11.9, 12.0, 12.1, 13.5):
            await anyio.wait_all_tasks_blocked()
            account.renewed(silent(world, days), time.monotonic() + 60)
        await world.rpc.until("phone_offline")
        await anyio.wait_all_tasks_blocked()
        assert "13 days" in world.rpc.row["status_detail"]
        assert (world.rpc.row["status"], world.rpc.row["next_action"]) == ("connected", "unblock")
        world.host.sessions[0].signals.put(PhoneSeen())
        await anyio.wait_all_tasks_blocked()
        assert world.rpc.row["phone_last_seen_at"] == "now"
        account.renewed(silent(world, 0.0), time.monotonic() + 60)
        await world.rpc.until("connected")
    assert world.rpc.shown[2:] == ["phone_offline", "phone_offline", "connected", "bridge_stopped"]
    assert world.rpc.reported == [("warning", "phone_offline")] * 2


async def test_after_a_crash_that_lost_the_newest_state_sends_wait_a_moment_and_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bridge.accounts.connection.RECOVERY_S", 0.2)
    world = World(linked=True, desired=Desired.RUNNING)
    world.rpc.is_behind = True
    async with world.running() as account:
        (await world.host.session(0)).signals.put(ME)
        await world.rpc.until("connected")
        assert "before a crash" in world.rpc.row["status_detail"]
        with pytest.raises(NotConnected) as caught:
            await account.send(CommandId("c"), Jid("1@lid"), Text(text="x"), ATTEMPT)
        assert caught.value.retryable
        await anyio.wait_all_tasks_blocked()
        assert world.rpc.reported == [("warning", "recovering")]
        async with anyio.create_task_group() as tasks:
            with anyio.fail_after(20):
                while not world.host.sessions[0].sent:
                    await anyio.sleep(0.02)
                    tasks.start_soon(try_to_send, account)
            tasks.cancel_scope.cancel()
    assert world.rpc.row["ended_cleanly"] is True


async def try_to_send(account: Account) -> None:
    with suppress(NotConnected):
        await account.send(CommandId("c"), Jid("1@lid"), Text(text="x"), ATTEMPT)


async def test_the_file_on_this_disk_misses_nothing_after_a_crash() -> None:
    world = World(linked=True, desired=Desired.RUNNING)
    world.rpc.is_behind = True
    world.host.local = LocalState(LeaseEpoch(4))
    async with world.running():
        (await world.host.session(0)).signals.put(ME)
        await world.rpc.until("connected")
        await anyio.wait_all_tasks_blocked()
        assert world.rpc.reported == []


async def test_a_session_that_is_asked_to_leave_its_engine_is_opened_again_at_once() -> None:
    world = World(linked=True, desired=Desired.RUNNING)
    async with world.running():
        (await world.host.session(0)).signals.put(ME)
        await world.rpc.until("connected")
        world.host.sessions[0].end("stopped")
        (await world.host.session(1)).signals.put(ME)
        await world.rpc.until("connected")
        assert world.host.sessions[0].closed
    assert world.rpc.shown == ["starting", "connected"] * 2 + ["bridge_stopped"]


async def test_an_account_linked_just_now_that_leaves_its_engine_shows_no_new_qr() -> None:
    world = World(linked=False, desired=Desired.STOPPED)
    async with world.running() as account, anyio.create_task_group() as tasks:

        async def link() -> None:
            (await world.host.session(0)).signals.put(ME)

        tasks.start_soon(link)
        assert await account.connect(PairByQr()) is AccountStatus.CONNECTED
        world.rpc.state = FakeRpc(linked=True).state
        world.host.sessions[0].end("stopped")
        (await world.host.session(1)).signals.put(ME)
        await world.rpc.until("connected")
    assert world.host.opened == [("NoneType", PairByQr()), ("bytes", None)]


async def test_a_stop_does_not_wait_for_a_turn_to_connect() -> None:
    world = World(linked=True, desired=Desired.RUNNING)
    rate = ConnectRate(0.001)
    for _ in range(rate.at_once):
        rate.take()
    world.around = dataclasses.replace(world.around, connect_rate=rate)
    with anyio.fail_after(20):
        async with world.running():
            await world.rpc.until("starting")
            await anyio.wait_all_tasks_blocked()
    assert world.host.opened == []


async def test_an_account_that_kills_its_engines_is_paused_and_the_events_say_so() -> None:
    world = World(linked=True, desired=Desired.RUNNING)
    world.host.faults = [EngineKeepsDying()]
    async with world.running() as account:
        await world.rpc.until("engine_keeps_dying")
        assert (world.rpc.row["status"], world.rpc.row["next_action"]) == ("error", "unblock")
        assert "desired" not in world.rpc.row
        await anyio.wait_all_tasks_blocked()
        assert world.rpc.reported == [("error", "engine_keeps_dying")]
        assert world.host.opened == []
        async with anyio.create_task_group() as tasks:

            async def connect() -> None:
                (await world.host.session(0)).signals.put(ME)

            tasks.start_soon(connect)
            assert await account.connect(PairByQr()) is AccountStatus.CONNECTED


async def test_a_session_that_the_last_host_took_back_when_it_woke_up_is_taken_once_more() -> None:
    world = World(linked=True, desired=Desired.RUNNING)
    world.lease = msgspec.structs.replace(world.lease, previous_owner="another worker")
    async with world.running():
        (await world.host.session(0)).signals.put(SessionEnded(code="replaced"))
        (await world.host.session(1)).signals.put(SessionEnded(code="replaced"))
        await world.rpc.until("replaced")
        assert len(world.host.opened) == 2


async def test_a_connection_that_whatsmeow_does_not_bring_back_is_made_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bridge.accounts.connection.BLIP_S", 0.01)
    monkeypatch.setattr("bridge.accounts.connection.REDIALS_S", (0.01, 0.02))
    world = World(linked=True, desired=Desired.RUNNING)
    async with world.running():
        (await world.host.session(0)).signals.put(ME)
        await world.rpc.until("connected")
        world.host.sessions[0].signals.put(Disconnected())
        await world.rpc.until("unreachable")
        (await world.host.session(1)).signals.put(ME)
        await world.rpc.until("connected")
    assert world.rpc.shown[2:4] == ["connection_lost", "unreachable"]


@pytest.mark.parametrize(
    ("tamper", "reason"),
    [
        (lambda state: state | {"kid": "other"}, "key_unknown"),
        (lambda state: state | {"data": state["data"][::-1]}, "auth_state_corrupt"),
    ],
)
async def test_a_state_that_does_not_open_is_told_and_kept(
    tamper: Callable[[dict[str, Any]], dict[str, Any]], reason: str
) -> None:
    world = World(linked=True, desired=Desired.RUNNING)
    assert world.rpc.state is not None
    world.rpc.state = tamper(world.rpc.state)
    async with world.running() as account:
        await world.rpc.until(reason)
        with pytest.raises(CommandError) as caught:
            await account.connect(PairByQr())
        assert caught.value.code == reason
    assert world.host.opened == []
    assert world.rpc.destroyed == 0


async def test_a_failure_is_not_tried_again_after_somebody_asked_for_rest() -> None:
    world = World(linked=True, desired=Desired.RUNNING)
    async with world.running() as account, anyio.create_task_group() as tasks:
        session = await world.host.session(0)
        session.may_leave = anyio.Event()
        session.signals.put(ME)
        await world.rpc.until("connected")
        session.signals.put(SessionEnded(code="connect_failure"))
        with anyio.fail_after(20):
            await session.leaving.wait()
        tasks.start_soon(account.disconnect)
        await anyio.wait_all_tasks_blocked()
        session.may_leave.set()
        await world.rpc.until("disconnected_by_user")
    assert "connect_failure" not in world.rpc.shown
    assert len(world.host.opened) == 1


async def test_disconnect_keeps_and_logout_destroys() -> None:
    world = World(linked=True, desired=Desired.RUNNING)
    async with world.running() as account:
        (await world.host.session(0)).signals.put(ME)
        await world.rpc.until("connected")
        await account.disconnect()
        assert world.rpc.row["status_reason"] == "disconnected_by_user"
        assert (world.rpc.row["desired"], world.rpc.destroyed) == ("stopped", 0)
        async with anyio.create_task_group() as tasks:

            async def connect() -> None:
                (await world.host.session(1)).signals.put(ME)

            tasks.start_soon(connect)
            assert await account.logout()
        assert (world.rpc.row["status_reason"], world.rpc.destroyed) == ("logged_out_by_user", 1)


async def test_sends_need_a_connection() -> None:
    world = World(linked=True, desired=Desired.STOPPED)
    async with world.running() as account:
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(CommandError) as caught:
            await account.send(CommandId("c1"), Jid("x"), Text(text="oi"), ATTEMPT)
        assert (caught.value.code, caught.value.retryable) == ("not_connected", False)


async def test_a_send_lost_with_its_engine_ends_when_the_account_comes_to_rest() -> None:
    world = World(linked=True, desired=Desired.RUNNING)
    async with world.running() as account, anyio.create_task_group() as tasks:
        (await world.host.session(0)).signals.put(ME)
        await world.rpc.until("connected")
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(account.send, CommandId("c1"), Jid("x"), Text(text="oi"), ATTEMPT)
        await anyio.wait_all_tasks_blocked()
        await account.disconnect()
    assert world.rpc.finished == [("c1", "unknown")]


async def test_the_engine_hears_of_renewed_leases() -> None:
    world = World(linked=True, desired=Desired.RUNNING)
    async with world.running() as account:
        session = await world.host.session(0)
        await anyio.wait_all_tasks_blocked()
        account.renewed(world.lease, time.monotonic() + 500)
        await anyio.wait_all_tasks_blocked()
        assert session.extended[-1] == pytest.approx(500, abs=5)


async def test_a_lease_that_was_not_renewed_ends_when_it_would_have() -> None:
    world = World(linked=True, desired=Desired.RUNNING)
    supervisor = Supervisor(world.around)
    not_renewed = msgspec.structs.replace(world.lease, renewed=False)
    async with anyio.create_task_group() as tasks:
        await tasks.start(supervisor.run)
        supervisor.apply([world.lease], time.monotonic() + 100)
        session = await world.host.session(0)
        await anyio.wait_all_tasks_blocked()
        supervisor.apply([not_renewed], time.monotonic() + 500)
        await anyio.wait_all_tasks_blocked()
        assert len(session.extended) == 2
        assert session.extended[-1] == pytest.approx(100, abs=5)
        await supervisor.stop(5)
        tasks.cancel_scope.cancel()


async def test_a_crash_stays_in_its_account(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(linked=True, desired=Desired.RUNNING)
    world.host.faults = [RuntimeError("bug"), AccountError("odd", code="no_local_state")]
    supervisor = Supervisor(world.around)
    other = AccountId("a2")
    leases = [world.lease, _renamed(world.lease, other)]
    async with anyio.create_task_group() as tasks:
        await tasks.start(supervisor.run)
        supervisor.apply(leases, time.monotonic() + 60)
        await world.rpc.until("crashed")
        assert set(supervisor.held) == {ACCOUNT, other}
        with anyio.fail_after(20):
            while not world.host.sessions:  # as the lease loop does
                supervisor.apply(leases, time.monotonic() + 60)
                await anyio.wait_all_tasks_blocked()
                await anyio.sleep(0.005)
        await supervisor.stop(5)
        tasks.cancel_scope.cancel()


async def test_an_account_that_does_not_end_in_time_is_told_apart() -> None:
    world = World(linked=True, desired=Desired.RUNNING)
    supervisor = Supervisor(world.around)
    at_rest = _renamed(world.lease, AccountId("a2"))
    async with anyio.create_task_group() as tasks:
        await tasks.start(supervisor.run)
        supervisor.apply([world.lease, at_rest], time.monotonic() + 60)
        await world.host.session(0)
        with anyio.fail_after(20):
            while "pairing_interrupted" not in world.rpc.shown:  # the other one is at rest
                await world.rpc.changed.wait()
        await anyio.wait_all_tasks_blocked()
        world.rpc.slow = anyio.Event()  # "the bridge was stopped" is on its way
        assert await supervisor.stop(0.1) == [ACCOUNT]
        tasks.cancel_scope.cancel()


async def test_an_account_that_is_not_ours_any_more_is_closed_without_a_word() -> None:
    world = World(linked=True, desired=Desired.RUNNING)
    supervisor = Supervisor(world.around)
    async with anyio.create_task_group() as tasks:
        await tasks.start(supervisor.run)
        supervisor.apply([world.lease], time.monotonic() + 60)
        session = await world.host.session(0)
        shown = list(world.rpc.shown)
        supervisor.apply([], time.monotonic() + 60)
        with anyio.fail_after(20):
            while supervisor.held:
                await anyio.lowlevel.checkpoint()
        assert session.closed
        assert not session.forgotten
        assert world.rpc.shown == shown
        tasks.cancel_scope.cancel()


async def test_a_lease_that_cannot_be_given_back_ends_no_other_account(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(_: object) -> None:
        raise RequestRefused("no", "XX000")

    world = World(linked=True, desired=Desired.RUNNING)
    monkeypatch.setattr(world.rpc, "release_leases", refuse)
    supervisor = Supervisor(world.around)
    async with anyio.create_task_group() as tasks:
        await tasks.start(supervisor.run)
        supervisor.apply([world.lease], time.monotonic() + 60)
        await world.host.session(0)
        assert await supervisor.stop(within_s=20) == []


def _renamed(lease: Lease, account: AccountId) -> Lease:
    import msgspec

    return msgspec.structs.replace(lease, account_id=account, has_auth_state=False)


async def test_a_drop_that_is_over_when_it_is_read_is_not_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bridge.accounts.connection.BLIP_S", 0)
    world = World(linked=True, desired=Desired.RUNNING)
    async with world.running():
        signals = (await world.host.session(0)).signals
        for signal in (ME, Disconnected(), ME):
            signals.put(signal)
        await world.rpc.until("connected")
        await anyio.wait_all_tasks_blocked()
        assert world.rpc.row["status"] == "connected"
        assert "connection_lost" not in world.rpc.shown


async def test_what_was_told_last_is_what_the_row_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.accounts.connection.BLIP_S", 0)
    world = World(linked=True, desired=Desired.RUNNING)
    async with world.running():
        signals = (await world.host.session(0)).signals
        signals.put(ME)
        await world.rpc.until("connected")
        slow = world.rpc.slow = anyio.Event()
        signals.put(Disconnected())
        await anyio.wait_all_tasks_blocked()  # "connection lost" is on its way
        signals.put(ME)
        await anyio.wait_all_tasks_blocked()
        slow.set()
        await anyio.wait_all_tasks_blocked()
        assert world.rpc.shown[-2:] == ["connection_lost", "connected"]


@pytest.mark.parametrize("gone", [2, 3])
async def test_a_saved_state_with_a_part_missing_is_not_an_older_one(gone: int) -> None:
    world = World(linked=True, desired=Desired.RUNNING)
    world.rpc.generation = 3
    page = image()[:4096]
    nothing = b"WBD1" + zlib.compress(struct.pack(">III", len(page), len(image()) // 4096, 0))
    for generation in {2, 3} - {gone}:
        sealed = VAULT.seal(nothing, purpose=PURPOSE, account=ACCOUNT, generation=generation)
        world.rpc.deltas.append(Delta(generation=generation, delta=sealed.to_json()))
    async with world.running():
        await world.rpc.until("auth_state_corrupt")
    assert world.host.opened == []
    assert world.rpc.destroyed == 0
