"""What a person does on the phone, beside messages, as the rows have it: read when it changes.

WhatsApp tells only that something changed, or names changes one by one and none that were made
while nobody was connected. So every word of it is a sign to read all of it; one reading after the
other, or an older answer could be recorded last.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

import anyio
from loguru import logger

from bridge.accounts.plan import Plan
from bridge.bell import Bell
from bridge.errors import CommandError
from bridge.normalise.history import muted_until
from bridge.orders import AskBlocklist, AskChats, Request
from bridge.supabase.client import RequestRefused
from bridge.supabase.patience import until_available
from bridge.supabase.rpc import BridgeRpc

RETRY_S = 60.0
# Between two readings: a phone that is used tells something of its chats all the time.
PAUSE_S = 2.0
# So many are asked for at a time; the engine reads them in its session file.
CHATS = 200


class AsksWhatsApp(Protocol):
    """What is needed of a session."""

    async def ask(self, order: Request) -> Any:
        """Ask WhatsApp for something."""


Read = Callable[[BridgeRpc, Plan, AsksWhatsApp], Awaitable[None]]


class Follower:
    """Of one session, and one thing."""

    def __init__(self, read: Read, rpc: BridgeRpc, plan: Plan) -> None:
        self._read = read
        self._rpc = rpc
        self._plan = plan
        self._stale = Bell()

    def may_have_changed(self) -> None:
        """Read it soon."""
        self._stale.ring()

    async def run(self, session: AsksWhatsApp) -> None:
        """Until cancelled.

        Raises:
            LeaseLost: the account is not ours any more.
            EngineDied: from the session.
        """
        while True:
            await self._stale.wait()
            try:
                await self._read(self._rpc, self._plan, session)
                await anyio.sleep(PAUSE_S)
            except (CommandError, RequestRefused) as fault:  # no reason to end the session
                logger.info(
                    "What changed on the phone is read later",
                    account=self._plan.account,
                    code=fault.code,
                )
                await self._stale.wait(RETRY_S)
                self._stale.ring()


async def read_blocklist(rpc: BridgeRpc, plan: Plan, session: AsksWhatsApp) -> None:
    """Whom the account blocks."""
    people = await session.ask(AskBlocklist())
    await until_available(
        lambda: rpc.record_blocklist(plan.account, plan.epoch, people), what="record a blocklist"
    )


async def read_chats(rpc: BridgeRpc, plan: Plan, session: AsksWhatsApp) -> None:
    """Which of the chats that are here are archived, pinned or muted on the phone."""
    chats = await until_available(
        lambda: rpc.list_chats(plan.account, plan.epoch), what="list chats"
    )
    for begin in range(0, len(chats), CHATS):
        some = chats[begin : begin + CHATS]
        answers = await session.ask(AskChats(chats=[chat.jids for chat in some]))
        told = [
            {**answer, "id": chat.id, "muted_until": muted_until(answer["muted_until"])}
            for chat, answer in zip(some, answers, strict=True)
            if answer is not None
        ]
        if told:
            record = partial(rpc.record_chats, plan.account, plan.epoch, told)
            await until_available(record, what="record chats")
