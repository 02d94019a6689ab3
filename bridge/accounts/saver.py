"""Keeps the sealed copy of a session's state in the database up to date.

A change is saved under the next generation, compare-and-set. A conflict or a lost lease means that
somebody else runs the account: the fault goes up, the session ends, nothing more is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import anyio
import anyio.to_thread
from loguru import logger

from bridge.engine.replica import Change
from bridge.ids import AccountId, LeaseEpoch
from bridge.supabase.client import GenerationConflict
from bridge.supabase.patience import until_available
from bridge.vault import Vault

PURPOSE = "session"
# A burst of changes is looked at once in this time; with the save itself it stays below a second.
LOOK_EVERY_S = 0.4


class SavesSessions(Protocol):
    """What is needed of the database."""

    async def save_session(
        self,
        account: AccountId,
        epoch: LeaseEpoch,
        generation: int,
        auth_state: dict[str, Any],
    ) -> None:
        """Replace the base."""

    async def save_session_delta(
        self, account: AccountId, epoch: LeaseEpoch, generation: int, delta: dict[str, Any]
    ) -> None:
        """Append a delta."""


class Copies(Protocol):
    """What is needed of the replica."""

    async def snapshot_if_changed(self) -> Change | None:
        """What is not acknowledged yet."""

    def acknowledge(self, change: Change) -> None:
        """It is in the database."""


@dataclass(slots=True)
class _Save:
    """A change on its way to the database.

    Attributes:
        tried: a request left; without an answer it may have been carried out.
    """

    change: Change
    generation: int
    sealed: dict[str, Any]
    tried: bool = False


class Saver:
    """Saves one session's state; `flush` and the loop may run at once, they take turns."""

    def __init__(
        self,
        rpc: SavesSessions,
        vault: Vault,
        replica: Copies,
        account: AccountId,
        epoch: LeaseEpoch,
        generation: int,
    ) -> None:
        self._rpc = rpc
        self._vault = vault
        self._replica = replica
        self._account = account
        self._epoch = epoch
        self._generation = generation
        self._turn = anyio.Lock()
        self._begun: _Save | None = None

    async def keep(self) -> None:
        """Save again and again, until cancelled.

        Raises:
            LeaseLost: somebody else runs the account.
        """
        while True:
            await self.flush()
            await anyio.sleep(LOOK_EVERY_S)

    async def flush(self) -> None:
        """Save what has changed; when this returns, the database knows the state as it was.

        Raises:
            LeaseLost: somebody else runs the account.
            StateUnreadable: SQLite cannot read the file.
        """
        async with self._turn:
            # What was cut short goes first, as it was: the database may have it already.
            if self._begun is not None:
                await self._finish(self._begun)
            change = await self._replica.snapshot_if_changed()
            if change is None:
                return
            generation = self._generation + 1
            sealed = await anyio.to_thread.run_sync(self._sealed, change, generation)
            self._begun = _Save(change, generation, sealed)
            await self._finish(self._begun)

    async def _finish(self, begun: _Save) -> None:
        await until_available(lambda: self._save(begun), what="save session state")
        self._generation = begun.generation
        self._replica.acknowledge(begun.change)
        self._begun = None

    async def _save(self, begun: _Save) -> None:
        is_base = begun.change.is_base
        save = self._rpc.save_session if is_base else self._rpc.save_session_delta
        tried, begun.tried = begun.tried, True
        try:
            await save(self._account, self._epoch, begun.generation, begun.sealed)
        except GenerationConflict:
            # Our own attempt before this one was committed, but its answer got lost on the way.
            if not tried:
                raise
            logger.info("A save whose answer got lost was done", account=self._account)

    def _sealed(self, change: Change, generation: int) -> dict[str, Any]:
        sealed = self._vault.seal(
            change.data, purpose=PURPOSE, account=self._account, generation=generation
        )
        return sealed.to_json()
