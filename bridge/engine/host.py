"""Owns the engine processes of this host, and the files of accounts on its disks.

<state_dir>/accounts/<account>/spool/      sealed journal, survives everything but the disk
<state_dir>/accounts/<account>/history/    the same for histories that are not yet recorded
<state_dir>/accounts/<account>/run.json    what the session file belongs to: epoch, boot id
<state_dir>/accounts/<account>/checkpoint  strict mode: the session file as WhatsApp knows it
<session_dir>/<account>.db                 live SQLite file, plaintext, best on a RAM disk
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

import anyio
import anyio.abc
import anyio.to_thread
import msgspec

from bridge.engine import frames, replica
from bridge.engine.fleet import Fleet, FleetSettings
from bridge.engine.process import ProcessSettings, default_command
from bridge.engine.replica import Replica
from bridge.engine.segments import has_unconfirmed_events
from bridge.engine.session import EngineDied, Session
from bridge.engine.strict import StrictMode
from bridge.errors import AccountError
from bridge.ids import AccountId, LeaseEpoch
from bridge.vault import Vault

SPOOL_PURPOSE = "spool"
HISTORY_PURPOSE = "history"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """How engine processes are started and bounded.

    Attributes:
        command: command line of an engine; the number of its socket is appended.
        state_dir: private directory on disk.
        session_dir: private directory, best on a RAM disk.
        device_name: what the phone shows under "Linked devices"; one for all accounts.
        connect_timeout_s: for a linked device to be connected for the first time.
        pairing_timeout_s: for the person with the phone; WhatsApp itself gives up after 160 s.
        spool_max_bytes: so much may be unrecorded an account; then WhatsApp has to wait.
        window: so many deliveries an account are given out before the first is confirmed.
        ping_timeout_s: an engine that does not answer for so long is killed; one that a signal
            stopped is killed at once.
        memory_max_bytes: the accounts of a larger engine move to a fresh one.
        spare_after_s: the next empty process is started when nothing happened for so long.
        least_age_s: a younger process is not replaced because of its size.
        proxy: URL of the HTTP proxy that engines of strict accounts reach WhatsApp by; empty =
            straight.
    """

    state_dir: Path
    session_dir: Path
    command: Sequence[str] = field(default_factory=default_command)
    accounts_per_engine: int = 20
    device_name: str = "wabridge"
    connect_timeout_s: float = 45.0
    pairing_timeout_s: float = 180.0
    close_timeout_s: float = 10.0
    ping_interval_s: float = 2.0
    ping_timeout_s: float = 10.0
    memory_max_bytes: int = 1 << 30
    spare_after_s: float = 3.0
    least_age_s: float = 60.0
    start_timeout_s: float = 30.0
    spool_max_bytes: int = 64 * 1024 * 1024
    window: int = 512
    proxy: str = ""


@dataclass(frozen=True, slots=True)
class LocalState:
    """A session file and spool of an earlier run on this host, intact (same boot).

    Attributes:
        epoch: the last lease epoch this host ran the account with.
    """

    epoch: LeaseEpoch


@dataclass(frozen=True, slots=True)
class Remains:
    """What is on this disk of an account that has no open session.

    Attributes:
        epoch: the last lease epoch this host ran the account with; None = unknown.
        has_session_file: its plain SQLite file.
        has_events: its spool holds something that was never confirmed.
    """

    account: AccountId
    epoch: LeaseEpoch | None
    has_session_file: bool
    has_events: bool


class UseLocal(enum.Enum):
    """Says to `EngineHost.open`: go on with the session file on this disk."""

    USE_LOCAL = enum.auto()


USE_LOCAL: Final = UseLocal.USE_LOCAL


@dataclass(frozen=True, slots=True)
class PairByQr:
    """Link a new device by QR: `QrShown` signals follow."""


@dataclass(frozen=True, slots=True)
class PairByCode:
    """Link a new device by a code typed on the phone: one `PairingCodeShown` follows.

    Attributes:
        phone: international number, digits only.
    """

    phone: str


class _Run(msgspec.Struct, frozen=True):
    """`run.json`."""

    epoch: int
    boot_id: str


class EngineHost:
    """Starts, places, watches and ends engine processes; an async context manager.

    Leaving the context closes all sessions and ends all processes, in bounded time.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._fleet = Fleet(
            FleetSettings(
                process=ProcessSettings(
                    command=settings.command,
                    start_timeout_s=settings.start_timeout_s,
                    ping_interval_s=settings.ping_interval_s,
                    ping_timeout_s=settings.ping_timeout_s,
                    memory_max_bytes=settings.memory_max_bytes,
                ),
                accounts_per_engine=settings.accounts_per_engine,
                spare_after_s=settings.spare_after_s,
                least_age_s=settings.least_age_s,
            )
        )
        self._sessions: dict[AccountId, Session] = {}
        self._opening: set[AccountId] = set()
        self._replicas: dict[AccountId, Replica] = {}
        self._numbers = itertools.count(1)
        self._strict = StrictMode(settings.state_dir / "accounts", settings.proxy)
        self._stack = AsyncExitStack()
        self._tasks: anyio.abc.TaskGroup | None = None

    async def __aenter__(self) -> Self:
        """Prepare the directories and start one engine in the background."""
        await anyio.to_thread.run_sync(self._make_directories)
        self._tasks = await self._stack.enter_async_context(anyio.create_task_group())
        self._fleet.begin(self._tasks)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Literal[False]:
        """Close sessions, then processes; every wait in it is bounded."""
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as closing:
                for session in list(self._sessions.values()):
                    closing.start_soon(session.aclose, name="session close")
        self._fleet.end()
        for each in self._replicas.values():
            each.close()
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()  # what waits for a process; engines end by themselves
        await self._stack.__aexit__(None, None, None)
        return False

    # ----------------------------------------------------------------------------- sessions

    async def open(
        self,
        account: AccountId,
        epoch: LeaseEpoch,
        *,
        vault: Vault,
        image: bytes | UseLocal | None,
        pairing: PairByQr | PairByCode | None = None,
        history_days: int = 14,
        strict: bool = False,
    ) -> Session:
        """Start an account's session; returns when the engine has opened its spool.

        Connecting goes on in the background: watch `Session.signals`.

        Args:
            account: whose.
            epoch: of the lease it runs under.
            vault: seals the spool.
            image: SQLite image from the database; `USE_LOCAL` for the file of `local_state`; None
                with ``pairing``.
            pairing: how to link a new device; any session file here is deleted. With neither image
                nor pairing the session only replays its spool and never connects.
            history_days: how far back a history is wanted; 0 = not at all.
            strict: nothing is told to WhatsApp before it cannot be lost on this host.

        :raises EngineDied: if no engine could be started, or it died meanwhile.
        :raises EngineKeepsDying: if the account killed too many engines.
        :raises CheckpointUnusable: with `USE_LOCAL`, if there is nothing else on this disk.
        :raises AccountError: `already_open`; `no_local_state`; `spool_corrupt`, `spool_in_use`,
            `spool_unusable` or a code of `VaultError`, if the spool cannot be read (nothing is
            deleted then).
        """
        existing = self._sessions.get(account)
        if existing is not None and existing.is_dead:
            await existing.aclose()
        if account in self._sessions or account in self._opening:
            raise AccountError("The account has a session already.", code="already_open")
        self._opening.add(account)
        try:
            return await self._open(account, epoch, vault, image, pairing, history_days, strict)
        finally:
            self._opening.discard(account)

    async def _open(
        self,
        account: AccountId,
        epoch: LeaseEpoch,
        vault: Vault,
        image: bytes | UseLocal | None,
        pairing: PairByQr | PairByCode | None,
        history_days: int,
        strict: bool,
    ) -> Session:
        connect = image is not None or pairing is not None
        strict = strict and connect
        written = await self._strict.before_open(account)
        knows_written = self._ran_since_boot(account)
        if connect:
            await anyio.to_thread.run_sync(self._place_state, account, epoch, image, vault, strict)
        acknowledged = image if isinstance(image, bytes) else None
        self._replicas[account] = Replica(self._database(account), acknowledged=acknowledged)
        session = await self._fleet.place(
            account,
            lambda engine: Session(
                number=next(self._numbers),
                account=account,
                epoch=epoch,
                replica=self._replicas[account],
                engine=engine,
                keeper=self,
                close_timeout_s=self._settings.close_timeout_s,
            ),
        )
        self._sessions[account] = session
        opened, proxy = False, ""
        try:
            if strict and self._tasks is not None:
                proxy = await self._strict.begin(
                    session, vault, self._database(account), self._tasks
                )
            await session.start(
                frames.Open(
                    session=session.number,
                    keys=vault.keys_of(account, purpose=SPOOL_PURPOSE),
                    spool_dir=str(self._spool_dir(account)),
                    spool_max_bytes=self._settings.spool_max_bytes,
                    database=str(self._database(account)),
                    device_name=self._settings.device_name,
                    window=self._settings.window,
                    connect=connect,
                    connect_timeout_s=self._settings.connect_timeout_s,
                    pairing_timeout_s=self._settings.pairing_timeout_s,
                    history_keys=vault.keys_of(account, purpose=HISTORY_PURPOSE),
                    history_dir=str(self._spool_dir(account).with_name("history")),
                    history_days=history_days,
                    pair=_pair(pairing),
                    phone=pairing.phone if isinstance(pairing, PairByCode) else "",
                    strict=strict,
                    proxy=proxy,
                    written=written if knows_written else None,
                )
            )
            await session.wait_opened()
            self._strict.opened(account)
            opened = True
        finally:
            if not opened:
                await session.aclose()
        return session

    async def session_closed(self, session: Session) -> None:
        """A session is over: its place is free."""
        if self._sessions.get(session.account) is session:
            del self._sessions[session.account]
        self._fleet.left(session)

    # ------------------------------------------------------------------------------- files

    def local_state(self, account: AccountId) -> LocalState | None:
        """What an earlier run on this host left of the account, if it is usable."""
        run = self._run(account)
        if run is None:
            return None
        database = self._database(account)
        intact = self._spool_dir(account).is_dir() and (
            (self._ran_since_boot(account) and database.is_file() and database.stat().st_size > 0)
            or self._strict.has_checkpoint(account)
        )
        return LocalState(LeaseEpoch(run.epoch)) if intact else None

    def _run(self, account: AccountId) -> _Run | None:
        try:
            return msgspec.json.decode(self._run_file(account).read_bytes(), type=_Run)
        except (OSError, msgspec.MsgspecError):
            return None

    def accounts_with_unrecorded_events(self) -> list[AccountId]:
        """Accounts whose spool on this disk holds events that were never confirmed.

        Reads those spools' sizes: for a start, not for a loop.
        """
        return [
            AccountId(each.name)
            for each in sorted((self._settings.state_dir / "accounts").glob("*"))
            if has_unconfirmed_events(each / "spool")
        ]

    async def local_is_intact(self, account: AccountId) -> bool:
        """Whether the session file is whole; not while it is open.

        Where there is a checkpoint, that is what counts: it is checked when it is put in place.
        """
        if self._strict.has_checkpoint(account):
            return True
        return await anyio.to_thread.run_sync(replica.is_intact, self._database(account))

    async def remains(self) -> list[Remains]:
        """What there is of accounts without an open session."""
        return await anyio.to_thread.run_sync(self._remains)

    def _remains(self) -> list[Remains]:
        spools = {path.name for path in (self._settings.state_dir / "accounts").glob("*")}
        files = {path.stem for path in self._settings.session_dir.glob("*.db")}
        found = []
        for name in sorted(spools | files):
            account = AccountId(name)
            if account in self._sessions or account in self._opening:
                continue
            has_events = has_unconfirmed_events(self._spool_dir(account))
            if has_events or name in files:
                run = self._run(account)
                epoch = LeaseEpoch(run.epoch) if run is not None else None
                found.append(Remains(account, epoch, name in files, has_events))
        return found

    async def forget(self, account: AccountId) -> None:
        """Delete the session file of an account that has no open session. The spool stays.

        :raises AccountError: `already_open`, if it has one.
        """
        if account in self._sessions or account in self._opening:
            raise AccountError("The account's session is open.", code="already_open")
        await anyio.to_thread.run_sync(self._remove_state, account)

    def _make_directories(self) -> None:
        for directory in (self._settings.state_dir, self._settings.session_dir):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self._settings.state_dir / "accounts").mkdir(exist_ok=True, mode=0o700)

    def _place_state(
        self,
        account: AccountId,
        epoch: LeaseEpoch,
        image: bytes | UseLocal | None,
        vault: Vault,
        strict: bool,
    ) -> None:
        old = self._replicas.pop(account, None)
        if old is not None:
            old.close()
        database = self._database(account)
        if image is USE_LOCAL:
            if self.local_state(account) is None:
                raise AccountError(
                    "This host has no usable session file of the account.", code="no_local_state"
                )
            self._strict.go_back(
                account,
                vault,
                database,
                else_as_it_is=self._ran_since_boot(account) and replica.is_intact(database),
            )
        else:
            self._run_file(account).unlink(missing_ok=True)
            if isinstance(image, bytes):
                replica.place(image, database)
            else:
                replica.remove(database)
                database.touch(mode=0o600)  # so that SQLite does not choose the mode
        if not strict or image is not USE_LOCAL:
            self._strict.discard(account)
        run_file = self._run_file(account)
        run_file.parent.mkdir(exist_ok=True, mode=0o700)
        fresh = run_file.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(_Run(epoch, _boot_id())))
        fresh.replace(run_file)

    def _remove_state(self, account: AccountId) -> None:
        old = self._replicas.pop(account, None)
        if old is not None:
            old.close()
        self._run_file(account).unlink(missing_ok=True)
        replica.remove(self._database(account))
        self._strict.discard(account)

    def _ran_since_boot(self, account: AccountId) -> bool:
        """Whether this machine has not started anew since the account ran here."""
        run = self._run(account)
        return run is not None and run.boot_id == _boot_id() != ""

    def _database(self, account: AccountId) -> Path:
        return self._settings.session_dir / f"{account}.db"

    def _run_file(self, account: AccountId) -> Path:
        return self._settings.state_dir / "accounts" / account / "run.json"

    def _spool_dir(self, account: AccountId) -> Path:
        return self._settings.state_dir / "accounts" / account / "spool"


def _pair(pairing: PairByQr | PairByCode | None) -> str:
    match pairing:
        case PairByQr():
            return "qr"
        case PairByCode():
            return "code"
        case None:
            return ""


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


__all__ = [
    "USE_LOCAL",
    "EngineDied",
    "EngineHost",
    "EngineSettings",
    "LocalState",
    "PairByCode",
    "PairByQr",
    "Remains",
    "Session",
    "UseLocal",
]
