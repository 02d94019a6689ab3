"""Typing is passed on soon, seldom, and never at the cost of anything else."""

from __future__ import annotations

from typing import Any, cast

import anyio
import pytest

from bridge.accounts.typists import QUEUE, Typists
from bridge.errors import SupabaseUnavailable
from bridge.events import Person, TypingShown
from bridge.ids import AccountId, Jid, LeaseEpoch
from bridge.supabase.rpc import BridgeRpc

pytestmark = pytest.mark.anyio

ACCOUNT, EPOCH = AccountId("a1"), LeaseEpoch(1)


class FakeRpc:
    """Counts what it is told; may be away."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.news = anyio.Event()
        self.away = False

    async def tell_typing(
        self, account: AccountId, epoch: LeaseEpoch, chat: Jid, person: Person, state: str
    ) -> bool:
        if self.away:
            self.away = False
            raise SupabaseUnavailable("Away.")
        self.told.append((chat, state))
        self.news.set()
        return True


def typing(chat: str = "1@lid", state: Any = "composing") -> TypingShown:
    return TypingShown(chat=Jid(chat), person=Person(lid=Jid("1@lid")), state=state)


def typists(rpc: FakeRpc) -> Typists:
    return Typists(cast("BridgeRpc", rpc))


async def told_until(rpc: FakeRpc, telling: Typists, chat: str) -> list[tuple[str, str]]:
    """Everything that was passed on, once the last one was."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(telling.run)
        with anyio.fail_after(20):
            while not rpc.told or rpc.told[-1][0] != chat:
                rpc.news = anyio.Event()
                await rpc.news.wait()
        tasks.cancel_scope.cancel()
    return rpc.told


async def test_the_same_is_told_once_and_a_change_at_once() -> None:
    rpc = FakeRpc()
    telling = typists(rpc)
    for state in ("composing", "composing", "recording", "recording", "paused"):
        telling.tell(ACCOUNT, EPOCH, typing(state=state))
    telling.tell(ACCOUNT, EPOCH, typing("last@lid"))
    assert await told_until(rpc, telling, "last@lid") == [
        ("1@lid", "composing"),
        ("1@lid", "recording"),
        ("1@lid", "paused"),
        ("last@lid", "composing"),
    ]


async def test_too_much_at_once_is_dropped_without_waiting() -> None:
    rpc = FakeRpc()
    telling = typists(rpc)
    for number in range(3 * QUEUE):
        telling.tell(ACCOUNT, EPOCH, typing(f"{number}@lid"))
    told = await told_until(rpc, telling, f"{QUEUE - 1}@lid")
    assert len(told) == QUEUE


async def test_a_database_that_is_away_costs_one_line() -> None:
    rpc = FakeRpc()
    rpc.away = True
    telling = typists(rpc)
    telling.tell(ACCOUNT, EPOCH, typing("lost@lid"))
    telling.tell(ACCOUNT, EPOCH, typing("next@lid"))
    assert await told_until(rpc, telling, "next@lid") == [("next@lid", "composing")]
