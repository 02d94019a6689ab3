"""Owns the engine processes of this host, and the files of accounts on its disks.

    <state_dir>/accounts/<account>/spool/      sealed journal, survives everything but the disk
    <state_dir>/accounts/<account>/history/    the same for histories that are not yet recorded
    <state_dir>/accounts/<account>/run.json    what the session file belongs to: epoch, boot id
    <state_dir>/accounts/<account>/checkpoint  strict mode: the session file as WhatsApp knows it
    <session_dir>/<account>.db                 live SQLite file, plaintext, best on a RAM disk

There is always a process with room, started before it is needed: a QR then takes no longer than
WhatsApp's handshake.
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
from loguru import logger

from bridge.engine import frames, replica
from bridge.engine.process import EngineProcess, ProcessSettings, default_command
from bridge.engine.replica import Replica
from bridge.engine.session import EngineDied, Session
from bridge.engine.spool import has_unconfirmed_events
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
        session_dir: private directory, best on a RAM disk (`session_dir_for`).
        device_name: what the phone shows under "Linked devices"; one for all accounts.
        connect_timeout_s: for a linked device to be connected for the first time.
        pairing_timeout_s: for the person with the phone; WhatsApp itself gives up after 160 s.
        spool_max_bytes: so much may be unrecorded an account; then WhatsApp has to wait.
        window: so many deliveries an account are given out before the first is confirmed.
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
    ping_interval_s: float = 5.0
    ping_timeout_s: float = 15.0
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
        self._process_settings = ProcessSettings(
            command=settings.command,
            start_timeout_s=settings.start_timeout_s,
            ping_interval_s=settings.ping_interval_s,
            ping_timeout_s=settings.ping_timeout_s,
        )
        self._engines: list[EngineProcess] = []
        self._sessions: dict[AccountId, Session] = {}
        self._opening: set[AccountId] = set()
        self._replicas: dict[AccountId, Replica] = {}
        self._numbers = itertools.count(1)
        self._strict = StrictMode(settings.state_dir / "accounts", settings.proxy)
        self._making_room = anyio.Lock()
        self._stack = AsyncExitStack()
        self._tasks: anyio.abc.TaskGroup | None = None
        self._ending = False

    async def __aenter__(self) -> Self:
        """Prepare the directories and start one engine in the background."""
        await anyio.to_thread.run_sync(self._make_directories)
        self._tasks = await self._stack.enter_async_context(anyio.create_task_group())
        self._tasks.start_soon(self._keep_room, name="engine room")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Literal[False]:
        """Close sessions, then processes; every wait in it is bounded."""
        self._ending = True
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as closing:
                for session in list(self._sessions.values()):
                    closing.start_soon(session.aclose, name="session close")
        for engine in self._engines:
            engine.end()
        for each in self._replicas.values():
            each.close()
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()  # what waits for room; engines end by themselves
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
        engine = await self._engine_with_room()
        session = Session(
            number=next(self._numbers),
            account=account,
            epoch=epoch,
            replica=self._replicas[account],
            engine=engine,
            keeper=self,
            close_timeout_s=self._settings.close_timeout_s,
        )
        engine.sessions[session.number] = session
        self._sessions[account] = session
        opened, proxy = False, ""
        try:
            if strict and self._tasks is not None:
                proxy = await self._strict.begin(
                    session, vault, self._database(account), self._tasks
                )
            await engine.send(
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
            opened = True
        finally:
            if not opened:
                await session.aclose()
        self._start_soon_room()
        return session

    async def session_closed(self, session: Session) -> None:
        """A session is over: its place is free."""
        if self._sessions.get(session.account) is session:
            del self._sessions[session.account]
        for engine in self._engines:
            engine.sessions.pop(session.number, None)
        self._start_soon_room()

    # ------------------------------------------------------------------------------- files

    def local_state(self, account: AccountId) -> LocalState | None:
        """What an earlier run on this host left of the account, if it is usable."""
        try:
            run = msgspec.json.decode(self._run_file(account).read_bytes(), type=_Run)
        except (OSError, msgspec.MsgspecError):
            return None
        database = self._database(account)
        intact = self._spool_dir(account).is_dir() and (
            (self._ran_since_boot(account) and database.is_file() and database.stat().st_size > 0)
            or self._strict.has_checkpoint(account)
        )
        return LocalState(LeaseEpoch(run.epoch)) if intact else None

    def accounts_with_unrecorded_events(self) -> list[AccountId]:
        """Accounts whose spool on this disk holds events that were never confirmed.

        Reads those spools' sizes: for a start, not for a loop.
        """
        return [
            AccountId(each.name)
            for each in sorted((self._settings.state_dir / "accounts").glob("*"))
            if has_unconfirmed_events(each / "spool")
        ]

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
            as_it_is = database.is_file() and self._ran_since_boot(account)
            self._strict.go_back(account, vault, database, else_as_it_is=as_it_is)
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
        try:
            run = msgspec.json.decode(self._run_file(account).read_bytes(), type=_Run)
        except (OSError, msgspec.MsgspecError):
            return False
        return run.boot_id == _boot_id() != ""

    def _database(self, account: AccountId) -> Path:
        return self._settings.session_dir / f"{account}.db"

    def _run_file(self, account: AccountId) -> Path:
        return self._settings.state_dir / "accounts" / account / "run.json"

    def _spool_dir(self, account: AccountId) -> Path:
        return self._settings.state_dir / "accounts" / account / "spool"

    # --------------------------------------------------------------------------- processes

    async def _engine_with_room(self) -> EngineProcess:
        """Where the next session goes; the caller puts it there before it waits for anything.

        :raises EngineDied: if no process can be started.
        """
        while (engine := self._best()) is None:
            await self._make_room()
        return engine

    def _best(self) -> EngineProcess | None:
        """The fullest process that has room, so that others stay empty; a spent one if need be."""
        self._engines = [engine for engine in self._engines if not engine.ended]
        usable = [
            engine
            for engine in self._engines
            if engine.alive
            and not engine.is_worn_out
            and len(engine.sessions) < self._settings.accounts_per_engine
        ]
        return max(usable, key=lambda each: (not each.is_spent, len(each.sessions)), default=None)

    async def _make_room(self) -> None:
        """See to it that there is a fresh process with room."""
        async with self._making_room:
            best = self._best()
            if best is None or best.is_spent:
                await self._start_engine()

    async def _start_engine(self) -> EngineProcess:
        if self._tasks is None or self._ending:
            raise EngineDied("The engine host is closed.")
        engine = EngineProcess(self._process_settings)
        self._engines.append(engine)
        self._tasks.start_soon(engine.run, name="engine")
        await engine.ready.wait()
        if not engine.alive:
            raise EngineDied("No engine process could be started.")
        return engine

    def _start_soon_room(self) -> None:
        if self._tasks is not None and not self._ending:
            self._tasks.start_soon(self._keep_room, name="engine room")

    async def _keep_room(self) -> None:
        """Have a warm process with room, then let spent ones go."""
        try:
            await self._make_room()
        except EngineDied:
            if not self._ending:
                logger.error("No engine process could be started; the next open tries again")
            return
        for engine in self._engines:
            if engine.alive and engine.is_spent and not engine.sessions:
                logger.info("An idle engine process is replaced", spent=engine.spent)
                engine.end()


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


def session_dir_for(state_dir: Path, *, ram_disk: Path = Path("/dev/shm")) -> Path:  # noqa: S108
    """Where live session files go: a RAM disk if there is one, else beside the spool.

    On a disk pairing takes three seconds instead of half a one.
    """
    if not ram_disk.is_dir():
        return state_dir / "sessions"
    name = str(state_dir.resolve()).strip("/").replace("/", "-")
    return ram_disk / f"wabridge-{name}"


__all__ = [
    "USE_LOCAL",
    "EngineDied",
    "EngineHost",
    "EngineSettings",
    "LocalState",
    "PairByCode",
    "PairByQr",
    "Session",
    "UseLocal",
    "session_dir_for",
]
