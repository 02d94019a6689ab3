"""Wanted against running: one task for each account that is held, behind a crash barrier.

Whatever happens in one account's task, the others do not notice: any exception is caught here, as
it is around a command (`commands.executor`) and a file (`media.attempts`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial

import anyio
from anyio.abc import TaskGroup
from loguru import logger

from bridge.accounts.account import Account
from bridge.accounts.face import Face
from bridge.accounts.ledger import SendLedger
from bridge.accounts.lifecycle import Occurrence
from bridge.accounts.surroundings import Surroundings
from bridge.errors import BridgeError, LeaseLost
from bridge.ids import AccountId, LeaseEpoch
from bridge.states import AccountStatus
from bridge.supabase.answers import Lease
from bridge.supabase.patience import Backoff, until_available

FIRST_RESTART_S = 2.0
MOST_RESTART_S = 120.0


@dataclass(slots=True)
class _Kept:
    """One held account.

    Attributes:
        ledger: outlives a crash of the account's task, as the sends in it do.
        leaves: it ends gracefully, and its lease is given back then.
    """

    lease: Lease
    until: float
    ledger: SendLedger = field(default_factory=SendLedger)
    account: Account | None = None
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    refreshed: anyio.Event = field(default_factory=anyio.Event)
    leaves: bool = False
    gone: anyio.Event = field(default_factory=anyio.Event)


class Supervisor:
    """Runs the accounts that `apply` names."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._to_give_back: dict[AccountId, LeaseEpoch] = {}
        self._left = anyio.Event()
        self._kept: dict[AccountId, _Kept] = {}
        self._tasks: TaskGroup | None = None
        self._stopping = False
        self._changed = anyio.Event()

    @property
    def held(self) -> list[AccountId]:
        """All accounts that run here now."""
        return list(self._kept)

    def load(self) -> dict[str, int]:
        """Counts for the heartbeat: accounts by status."""
        counts: dict[str, int] = {"accounts": len(self._kept)}
        for kept in self._kept.values():
            if kept.account is not None:
                status = kept.account.status.value
                counts[status] = counts.get(status, 0) + 1
        return counts

    async def run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Run accounts until `stop` has ended them all."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            task_status.started()
            await self._give_back()

    def apply(self, leases: list[Lease], until: float) -> None:
        """These are all the accounts that are ours; renewed ones until then (monotonic seconds)."""
        if self._tasks is None:
            return
        # a lease that is being given back may still be in an answer
        wanted = {
            lease.account_id: lease
            for lease in leases
            if self._to_give_back.get(lease.account_id) != lease.lease_epoch
        }
        for account_id, kept in list(self._kept.items()):
            lease = wanted.get(account_id)
            if lease is None or lease.lease_epoch != kept.lease.lease_epoch:
                logger.info("The account is not ours any more", account=account_id)
                kept.scope.cancel()
        grew = False
        for account_id, lease in wanted.items():
            kept_now = self._kept.get(account_id)
            if kept_now is not None and kept_now.lease.lease_epoch == lease.lease_epoch:
                self._refresh(kept_now, lease, until)
                continue
            if self._stopping:
                continue
            new = _Kept(lease, until)
            self._kept[account_id] = new
            self._tasks.start_soon(self._keep, new, kept_now, name=f"account {account_id}")
            grew = True
        if grew:
            self._tell()
            self._around.ring()

    def _refresh(self, kept: _Kept, lease: Lease, until: float) -> None:
        kept.lease = lease
        if lease.renewed:
            kept.until = until
        kept.refreshed.set()
        if kept.account is not None:
            kept.account.renewed(lease, kept.until)
        if lease.wanted_elsewhere and not self._stopping:
            self._let_go(kept)

    async def find(
        self, account_id: AccountId, epoch: LeaseEpoch, *, within_s: float
    ) -> Account | None:
        """The account as it runs under that lease; waits a little for one that is just starting."""
        with anyio.move_on_after(within_s):
            while True:
                kept = self._kept.get(account_id)
                if kept is not None and kept.lease.lease_epoch > epoch:
                    return None
                if kept is not None and kept.lease.lease_epoch == epoch and kept.account:
                    return kept.account
                await self._changed.wait()
        return None

    async def stop(self, within_s: float) -> list[AccountId]:
        """End all accounts gracefully, in bounded time; returns those that did not end in it.

        Each lease is given back as soon as its account has ended, so that another host need not
        wait for the slowest.
        """
        self._stopping = True
        kept_ones = list(self._kept.values())
        for kept in kept_ones:
            kept.leaves = True
            if kept.account is not None:
                kept.account.stop()
            else:
                kept.scope.cancel()
        with anyio.move_on_after(within_s):
            for kept in kept_ones:
                await kept.gone.wait()
            while self._to_give_back:
                await self._left.wait()
        late = [kept.lease.account_id for kept in kept_ones if not kept.gone.is_set()]
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()
        return late

    def _let_go(self, kept: _Kept) -> None:
        """End it gracefully: another host asked for it. One that is in trouble stays."""
        if (
            kept.account is None
            or kept.leaves
            or kept.account.status is not AccountStatus.CONNECTED
        ):
            return
        logger.info("An account moves to another host", account=kept.lease.account_id)
        kept.leaves = True
        kept.account.stop(moves=True)

    async def _give_back(self) -> None:
        """Until cancelled: return the leases of accounts that ended gracefully."""
        while True:
            left = self._left
            if leases := dict(self._to_give_back):
                try:
                    await until_available(
                        partial(self._around.rpc.release_leases, sorted(leases)),
                        what="release leases",
                    )
                except BridgeError as fault:
                    logger.error("Leases were not given back; they run out", code=fault.code)
                for account_id, epoch in leases.items():
                    if self._to_give_back.get(account_id) == epoch:
                        del self._to_give_back[account_id]
                self._note_left()
            else:
                await left.wait()

    def _note_left(self) -> None:
        self._left.set()
        self._left = anyio.Event()

    async def _keep(self, kept: _Kept, before: _Kept | None) -> None:
        try:
            with logger.contextualize(account=kept.lease.account_id), kept.scope:
                if before is not None:
                    await before.gone.wait()
                if await self._behind_barrier(kept) and kept.leaves:
                    self._to_give_back[kept.lease.account_id] = kept.lease.lease_epoch
                    self._note_left()
        finally:
            if self._kept.get(kept.lease.account_id) is kept:
                del self._kept[kept.lease.account_id]
            kept.ledger.let_go()
            kept.gone.set()
            if not kept.leaves:
                self._around.lost()
            self._tell()

    async def _behind_barrier(self, kept: _Kept) -> bool:
        """Whether it ended gracefully."""
        restarts = Backoff(FIRST_RESTART_S, MOST_RESTART_S, least_s=1.0)
        while not self._stopping:
            try:
                kept.account = Account(self._around, kept.lease, kept.until, kept.ledger)
                self._tell()
                await kept.account.run()
            except LeaseLost as lost:
                logger.info("The account is not ours any more", code=lost.code)
                return False
            except BridgeError as fault:
                logger.error("An account stopped", code=fault.code, reason=fault.sentence)
                sentence = fault.sentence
            except Exception as error:  # noqa: BLE001 - the barrier of one account
                logger.opt(exception=error).error("An account crashed; the others go on")
                sentence = None
            else:
                return True
            kept.account = None
            if not await self._rest_after_crash(kept, sentence, restarts.next_delay_s()):
                return False
        return False

    async def _rest_after_crash(self, kept: _Kept, sentence: str | None, pause_s: float) -> bool:
        """Tell, and wait; False if the account is not ours any more."""
        lease = kept.lease
        face = Face(self._around.rpc, lease.account_id, lease.lease_epoch, lease.status)
        try:
            with anyio.move_on_after(max(1.0, kept.until - time.monotonic())):
                await face.show(Occurrence.CRASHED, sentence=sentence, retry_in_s=pause_s)
        except LeaseLost:
            return False
        except BridgeError as fault:
            logger.error("The fault of an account could not be told", code=fault.code)
        await anyio.sleep(pause_s)
        # what is known of the account must be newer than its crash
        kept.refreshed = anyio.Event()
        await kept.refreshed.wait()
        return True

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
