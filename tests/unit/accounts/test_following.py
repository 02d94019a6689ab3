"""What changes on the phone is read whenever it may have, one reading after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio
import pytest

from bridge.accounts import following
from bridge.accounts.following import Follower, read_blocklist, read_chats
from bridge.accounts.plan import Mode, Plan
from bridge.errors import BridgeError, CommandError
from bridge.ids import AccountId, Jid, LeaseEpoch
from bridge.orders import AskBlocklist, AskChats, Request
from bridge.supabase.answers import PhoneChat
from bridge.supabase.client import RequestRefused
from bridge.supabase.rpc import BridgeRpc

pytestmark = pytest.mark.anyio
PLAN = Plan(
    account=AccountId("a1"),
    epoch=LeaseEpoch(1),
    mode=Mode.RESUME,
    pairing=None,
    known_epoch=None,
    settles=False,
)
ANA = {"phone_jid": "5511987654321@s.whatsapp.net", "lid": "111@lid"}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "PAUSE_S", 0.0)


class Phone:
    """WhatsApp and the database in one: what is asked, and what is recorded."""

    def __init__(self) -> None:
        self.blocks: list[dict[str, str]] = []
        self.faults: list[BridgeError] = []
        self.answers: anyio.Event | None = None
        self.log: list[str] = []
        self.recorded: list[dict[str, Any]] | None = None
        self.news = anyio.Event()

    async def ask(self, order: Request) -> Any:
        assert isinstance(order, AskBlocklist)
        self.note("asked")
        if self.faults:
            raise self.faults.pop(0)
        answer = list(self.blocks)
        if self.answers is not None:
            await self.answers.wait()
        return answer

    async def record_blocklist(
        self, account: AccountId, epoch: LeaseEpoch, people: list[dict[str, Any]]
    ) -> None:
        self.recorded = people
        self.note("recorded")

    def note(self, what: str) -> None:
        self.log.append(what)
        self.news.set()
        self.news = anyio.Event()

    async def until(self, *log: str) -> None:
        with anyio.fail_after(5):
            while self.log != list(log):
                await self.news.wait()


@asynccontextmanager
async def followed(phone: Phone) -> AsyncIterator[Follower]:
    follower = Follower(read_blocklist, cast("BridgeRpc", phone), PLAN)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follower.run, phone)
        yield follower
        tasks.cancel_scope.cancel()


async def test_a_change_during_a_reading_is_read_after_it() -> None:
    phone = Phone()
    phone.answers = anyio.Event()
    async with followed(phone) as follower:
        follower.may_have_changed()
        await phone.until("asked")
        phone.blocks = [ANA]
        follower.may_have_changed()
        phone.answers.set()
        await phone.until("asked", "recorded", "asked", "recorded")
    assert phone.recorded == [ANA]


@pytest.mark.parametrize(
    "fault",
    [
        CommandError("No.", code="whatsapp_timeout", retryable=True),
        RequestRefused("The database refuses these data.", "22023"),
    ],
    ids=["WhatsApp", "the database"],
)
async def test_what_fails_is_tried_again_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, fault: BridgeError
) -> None:
    monkeypatch.setattr(following, "RETRY_S", 0.01)
    phone = Phone()
    phone.faults = [fault]
    phone.blocks = [ANA]
    async with followed(phone) as follower:
        follower.may_have_changed()
        await phone.until("asked", "asked", "recorded")
    assert phone.recorded == [ANA]


class ManyChats:
    """A database with chats, and what the phone says of the last one of them."""

    def __init__(self, count: int) -> None:
        self.chats = [PhoneChat(id=str(n), jids=[Jid(f"{n}@lid")]) for n in range(count)]
        self.asked: list[int] = []
        self.recorded: list[dict[str, Any]] = []

    async def list_chats(self, account: AccountId, epoch: LeaseEpoch) -> list[PhoneChat]:
        return self.chats

    async def ask(self, order: Request) -> Any:
        assert isinstance(order, AskChats)
        self.asked.append(len(order.chats))
        last = self.chats[-1].jids
        said = {"archived": True, "pinned": False, "muted_until": 2e12}
        return [said if jids == last else None for jids in order.chats]

    async def record_chats(
        self, account: AccountId, epoch: LeaseEpoch, chats: list[dict[str, Any]]
    ) -> None:
        self.recorded += chats


async def test_chats_are_asked_for_in_pieces_and_only_what_was_said_is_recorded() -> None:
    world = ManyChats(following.CHATS + 1)
    await read_chats(cast("BridgeRpc", world), PLAN, world)
    assert world.asked == [following.CHATS, 1]
    assert world.recorded == [
        {
            "id": str(following.CHATS),
            "archived": True,
            "pinned": False,
            "muted_until": "9999-01-01T00:00:00+00:00",
        }
    ]
