"""Commands that an earlier run left open are decided, never guessed: see `docs/lifecycles.md`."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import anyio
from loguru import logger

from bridge.accounts.ledger import SendLedger
from bridge.accounts.plan import Plan
from bridge.engine.session import Session
from bridge.ids import AccountId, CommandId, LeaseEpoch, SpoolPosition, WhatsAppMessageId
from bridge.supabase.answers import Finish, Settled
from bridge.supabase.patience import until_available


class SettlesCommands(Protocol):
    """What is needed of the database."""

    async def settle_commands(
        self, account: AccountId, epoch: LeaseEpoch, known_epoch: LeaseEpoch | None
    ) -> Settled:
        """Put back, or end as `unknown`, what an earlier holder left running."""

    async def finish_command(
        self,
        account: AccountId,
        epoch: LeaseEpoch,
        command: CommandId,
        status: Finish,
        *,
        result: dict[str, Any] | None = None,
        error_code: str | None = None,
        error_message: str | None = None,
        retry_in_s: float | None = None,
        claim: int | None = None,
        counts: bool = True,
    ) -> bool:
        """End one command, or put it back."""


class Settling:
    """What an earlier run left open, decided once a session.

    Attributes:
        done: set when nothing of it is open any more.
    """

    def __init__(self, rpc: SettlesCommands, ledger: SendLedger, plan: Plan) -> None:
        self._rpc = rpc
        self._ledger = ledger
        self._plan = plan
        self.done = anyio.Event()
        self._position = SpoolPosition(0)
        self._recorded_more = anyio.Event()

    def recorded(self, position: SpoolPosition) -> None:
        """Deliveries up to here are in the database."""
        self._position = position
        self._recorded_more.set()
        self._recorded_more = anyio.Event()

    async def run(self, session: Session) -> None:
        """What an earlier run left open is decided when its spool has been read to the end."""
        replayed = await session.replayed()
        while self._position < replayed:
            await self._recorded_more.wait()
        for command in self._ledger.started():
            await self._finish(command, "unknown")
        for command in self._ledger.unstarted():
            await self._finish(command, "pending")
        if replayed:
            await session.confirm(self._position)
        if self._plan.settles:
            plan = self._plan
            await settle_commands(self._rpc, plan.account, plan.epoch, plan.known_epoch)
        self.done.set()

    async def _finish(self, command: CommandId, status: Literal["unknown", "pending"]) -> None:
        name = self._ledger.name_of(command)
        await finish_send(self._rpc, self._plan.account, self._plan.epoch, command, status, name)
        self._ledger.take_back(command)


async def settle_commands(
    rpc: SettlesCommands, account: AccountId, epoch: LeaseEpoch, known_epoch: LeaseEpoch | None
) -> None:
    """Decide about commands that an earlier holder left running."""
    settled = await until_available(
        lambda: rpc.settle_commands(account, epoch, known_epoch), what="settle commands"
    )
    if settled.requeued or settled.unknown:
        logger.info(
            "Commands of an earlier run were settled",
            requeued=settled.requeued,
            unknown=settled.unknown,
        )


async def finish_send(
    rpc: SettlesCommands,
    account: AccountId,
    epoch: LeaseEpoch,
    command: CommandId,
    status: Literal["unknown", "pending"],
    name: WhatsAppMessageId | None = None,
) -> None:
    """End a send whose outcome will not come: `unknown` if it may have left, else `pending`.

    Under its name a receipt may settle it later.
    """
    unknown = status == "unknown"
    await until_available(
        lambda: rpc.finish_command(
            account,
            epoch,
            command,
            status,
            result={"whatsapp_message_id": name} if unknown and name else None,
            error_code="outcome_unknown" if unknown else None,
            error_message=(
                "The bridge stopped while this was being sent: it may have arrived or not."
                if unknown
                else None
            ),
            retry_in_s=None if unknown else 0.0,
            counts=unknown,
        ),
        what="finish command",
    )
