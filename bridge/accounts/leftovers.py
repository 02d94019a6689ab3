"""What is left on this disk of accounts that this host does not hold any more.

After a `kill -9`, or when Supabase was away for longer than a lease, a host may find a journal that
it cannot record as a holder any more, and a session file that is old and in plain form. What the
journal tells is recorded late, as facts; the file is deleted. So are facts of an account that came
to rest before all was recorded: it needs no host, and nobody may hold it for months. Of an account
that is wanted and that nobody took since, all stays: the next lease of this host goes on with it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Protocol

import anyio
import anyio.lowlevel
from loguru import logger

from bridge.accounts.ending import first_of
from bridge.accounts.ledger import SendLedger
from bridge.accounts.surroundings import Recorder
from bridge.bell import Bell
from bridge.engine.files import Remains
from bridge.engine.session import Session
from bridge.errors import AccountError, BridgeError, SupabaseUnavailable
from bridge.ids import AccountId, LeaseEpoch, WorkerId
from bridge.supabase.answers import LeaseEpochRow
from bridge.vault import Vault

EVERY_S = 20.0
# Between two looks at a disk at least, however often somebody rings.
PAUSE_S = 2.0


class TellsEpochs(Protocol):
    """What is needed of the database."""

    worker: WorkerId

    async def lease_epochs(self, accounts: Sequence[AccountId]) -> list[LeaseEpochRow]:
        """Who has these accounts, under which epoch."""

    async def report(self, account: AccountId | None, level: str, code: str, message: str) -> None:
        """Leave a line for the operator."""


class KeepsFiles(Protocol):
    """What is needed of the engine host."""

    async def remains(self) -> list[Remains]:
        """Of accounts without an open session."""

    async def open(
        self, account: AccountId, epoch: LeaseEpoch, *, vault: Vault, image: None
    ) -> Session:
        """A session that only replays its journal."""

    async def forget(self, account: AccountId) -> None:
        """Delete a session file."""


class Leftovers:
    """Looks from time to time, and when an account was lost."""

    def __init__(
        self,
        rpc: TellsEpochs,
        host: KeepsFiles,
        vault: Vault,
        *,
        bell: Bell,
        held: Callable[[], list[AccountId]],
        record: Recorder,
    ) -> None:
        """Prepare.

        Args:
            rpc: the database.
            host: the disk.
            vault: opens journals.
            bell: an account was lost.
            held: accounts that run here.
            record: records late what a session delivers, as facts.
        """
        self._rpc = rpc
        self._host = host
        self._vault = vault
        self._held = held
        self._record = record
        self._unusable: set[AccountId] = set()
        self._bell = bell

    async def keep(self) -> None:
        """Until cancelled."""
        while True:
            await anyio.sleep(PAUSE_S)
            await self._bell.wait(EVERY_S * random.uniform(0.8, 1.2))  # noqa: S311
            try:
                await self.look()
            except SupabaseUnavailable:
                continue  # the lease loop tells of it
            except BridgeError as fault:
                logger.error("Leftovers could not be cleared", code=fault.code)
            except OSError as fault:
                logger.error("Leftovers could not be read", error=type(fault).__name__)

    async def look(self) -> None:
        """Record what is left, and delete what other hosts have taken.

        Raises:
            SupabaseUnavailable: it stays, for now.
        """
        found = {
            each.account: each for each in await self._host.remains() if not self._is_ours(each)
        }
        if not found:
            return
        rows = {row.account_id: row for row in await self._rpc.lease_epochs(list(found))}
        for account, remains in found.items():
            row = rows.get(account)
            if self._is_ours(remains) or (row is not None and row.lease_owner == self._rpc.worker):
                continue
            try:
                await self._clear(remains, row)
            except SupabaseUnavailable:
                raise
            except (BridgeError, OSError) as fault:
                code = fault.code if isinstance(fault, BridgeError) else type(fault).__name__
                logger.warning(
                    "What is left of an account was not cleared", account=account, code=code
                )
                # in use by the account itself meanwhile, or it does not open: that is told when
                # the account comes back
                if isinstance(fault, AccountError) and code != "already_open":
                    self._unusable.add(account)

    def _is_ours(self, remains: Remains) -> bool:
        return remains.account in self._held() or remains.account in self._unusable

    async def _clear(self, remains: Remains, row: LeaseEpochRow | None) -> None:
        account, epoch = remains.account, remains.epoch
        is_over = row is None or epoch is None or row.lease_epoch > epoch
        at_rest = row is not None and row.lease_owner is None
        if row is not None and epoch is not None and remains.has_events and (is_over or at_rest):
            await self._replay(account, epoch)
        if is_over and remains.has_session_file:
            logger.info("A session file that nobody goes on with is removed", account=account)
            await self._host.forget(account)

    async def _replay(self, account: AccountId, epoch: LeaseEpoch) -> None:
        session = await self._host.open(account, epoch, vault=self._vault, image=None)
        try:
            last = await session.replayed()
            fault: BridgeError | None = None
            try:
                async with anyio.create_task_group() as recording:
                    recording.start_soon(self._record_late, session, name="record late")
                    await session.disconnect()
            except* BridgeError as group:
                fault = first_of(group)
            if fault is not None:
                raise fault
            # what was started and has no outcome is settled: by who has the account now, or here
            await session.confirm(last)
        finally:
            await session.aclose()
        logger.info("Events were recorded late", account=account)
        await self._rpc.report(
            account,
            "warning",
            "recorded_late",
            "Events that a host could not record while it had the account are in now.",
        )

    async def _record_late(self, session: Session) -> None:
        await self._record(
            session,
            SendLedger(),
            before_sent=anyio.lowlevel.checkpoint,
            on_recorded=lambda _: None,
        )
