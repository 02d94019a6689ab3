"""The blocklist is read whenever it may have changed, one reading after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from bridge.accounts import blocklist
from bridge.accounts.blocklist import Blocklist
from bridge.errors import CommandError
from bridge.ids import AccountId, LeaseEpoch
from bridge.orders import AskBlocklist, Request

pytestmark = pytest.mark.anyio
ANA = {"phone_jid": "5511987654321@s.whatsapp.net", "lid": "111@lid"}


class Phone:
    """WhatsApp and the database in one: what is asked, and what is recorded."""

    def __init__(self) -> None:
        self.blocks: list[dict[str, str]] = []
        self.faults: list[CommandError] = []
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
async def followed(phone: Phone) -> AsyncIterator[Blocklist]:
    follower = Blocklist(phone, AccountId("a1"), LeaseEpoch(1))
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


async def test_what_whatsapp_does_not_answer_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blocklist, "RETRY_S", 0.01)
    phone = Phone()
    phone.faults = [CommandError("No.", code="whatsapp_timeout", retryable=True)]
    phone.blocks = [ANA]
    async with followed(phone) as follower:
        follower.may_have_changed()
        await phone.until("asked", "asked", "recorded")
    assert phone.recorded == [ANA]
