"""Whom an account blocks, as the rows have it: read whole whenever it may have changed.

WhatsApp tells changes one by one, or only that there are some, and none that were made while nobody
was connected. So a change is a sign to read the list, and so is every connection; one reading after
the other, or an older answer could be recorded last.
"""

from __future__ import annotations

from typing import Any, Protocol

import anyio
from loguru import logger

from bridge.errors import CommandError
from bridge.ids import AccountId, LeaseEpoch
from bridge.orders import AskBlocklist, Request
from bridge.supabase.patience import until_available

RETRY_S = 60.0


class AsksWhatsApp(Protocol):
    """What is needed of a session."""

    async def ask(self, order: Request) -> Any:
        """Ask WhatsApp for something."""


class RecordsBlocklists(Protocol):
    """What is needed of the database."""

    async def record_blocklist(
        self, account: AccountId, epoch: LeaseEpoch, people: list[dict[str, Any]]
    ) -> None:
        """The account blocks these and nobody else."""


class Blocklist:
    """Of one session."""

    def __init__(self, rpc: RecordsBlocklists, account: AccountId, epoch: LeaseEpoch) -> None:
        self._rpc = rpc
        self._account = account
        self._epoch = epoch
        self._stale = anyio.Event()

    def may_have_changed(self) -> None:
        """Read it soon."""
        self._stale.set()

    async def run(self, session: AsksWhatsApp) -> None:
        """Until cancelled.

        Raises:
            LeaseLost: the account is not ours any more.
            EngineDied: from the session.
        """
        while True:
            await self._stale.wait()
            self._stale = anyio.Event()
            try:
                people = await session.ask(AskBlocklist())
            except CommandError as fault:
                logger.info("The blocklist is read later", account=self._account, code=fault.code)
                with anyio.move_on_after(RETRY_S):
                    await self._stale.wait()
                self._stale.set()
                continue
            await self._record(people)

    async def _record(self, people: list[dict[str, Any]]) -> None:
        await until_available(
            lambda: self._rpc.record_blocklist(self._account, self._epoch, people),
            what="record a blocklist",
        )
