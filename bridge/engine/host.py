"""Owns the engine processes of this host, and the sessions in them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import anyio
import anyio.abc
import anyio.to_thread

from bridge.engine import frames
from bridge.engine.files import AccountFiles, Remains, UseLocal
from bridge.engine.fleet import Fleet, FleetSettings
from bridge.engine.process import ProcessSettings
from bridge.engine.replica import Replica
from bridge.engine.session import Session
from bridge.engine.strict import StrictMode
from bridge.errors import AccountError
from bridge.ids import AccountId, LeaseEpoch
from bridge.vault import Vault

SPOOL_PURPOSE = "spool"
HISTORY_PURPOSE = "history"


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

    command: Sequence[str]
    state_dir: Path
    session_dir: Path
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
class PairByQr:
    """Link a new device by QR: `QrShown` signals follow."""


@dataclass(frozen=True, slots=True)
class PairByCode:
    """Link a new device by a code typed on the phone: one `PairingCodeShown` follows.

    Attributes:
        phone: international number, digits only.
    """

    phone: str


class EngineHost:
    """Starts, places, watches and ends engine processes; an async context manager.

    Leaving the context closes all sessions and ends all processes, in bounded time.

    Attributes:
        files: what is on this host's disks of its accounts.
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
        self.files = AccountFiles(settings.state_dir, settings.session_dir, self._strict)
        self._stack = AsyncExitStack()
        self._tasks: anyio.abc.TaskGroup | None = None

    async def __aenter__(self) -> Self:
        """Prepare the directories and start one engine in the background."""
        await anyio.to_thread.run_sync(self.files.make_directories)
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
            image: SQLite image from the database; `USE_LOCAL` for the file on this disk; None with
                ``pairing``.
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
        if self._is_open(account):
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
        files = self.files
        knows_written = files.ran_since_boot(account)
        if connect:
            await anyio.to_thread.run_sync(self._close_replica, account)
            await anyio.to_thread.run_sync(files.place, account, epoch, image, vault, strict)
        database = files.database(account)
        acknowledged = image if isinstance(image, bytes) else None
        self._replicas[account] = Replica(database, acknowledged=acknowledged)
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
                proxy = await self._strict.begin(session, vault, database, self._tasks)
            await session.start(
                frames.Open(
                    session=session.number,
                    keys=vault.keys_of(account, purpose=SPOOL_PURPOSE),
                    spool_dir=str(files.spool_dir(account)),
                    spool_max_bytes=self._settings.spool_max_bytes,
                    database=str(database),
                    device_name=self._settings.device_name,
                    window=self._settings.window,
                    connect=connect,
                    connect_timeout_s=self._settings.connect_timeout_s,
                    pairing_timeout_s=self._settings.pairing_timeout_s,
                    history_keys=vault.keys_of(account, purpose=HISTORY_PURPOSE),
                    history_dir=str(files.history_dir(account)),
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

    async def remains(self) -> list[Remains]:
        """What there is on this disk of accounts without an open session."""
        return await anyio.to_thread.run_sync(self.files.remains, self._is_open)

    async def forget(self, account: AccountId) -> None:
        """Delete the session file of an account that has no open session. The spool stays.

        :raises AccountError: `already_open`, if it has one.
        """
        if self._is_open(account):
            raise AccountError("The account's session is open.", code="already_open")
        await anyio.to_thread.run_sync(self._close_replica, account)
        await anyio.to_thread.run_sync(self.files.remove, account)

    def _is_open(self, account: AccountId) -> bool:
        return account in self._sessions or account in self._opening

    def _close_replica(self, account: AccountId) -> None:
        """Blocks while somebody reads through it."""
        replica = self._replicas.pop(account, None)
        if replica is not None:
            replica.close()


def _pair(pairing: PairByQr | PairByCode | None) -> str:
    match pairing:
        case PairByQr():
            return "qr"
        case PairByCode():
            return "code"
        case None:
            return ""
