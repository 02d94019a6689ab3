"""An import goes on where it was, shows progress that only rises, and says what is missing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.accounts.history import (
    LEAST_CALL_MESSAGES,
    LOST_A_PART,
    REFUSED_A_PART,
    SENT_NOTHING,
    HistoryImport,
    Progress,
)
from bridge.events import HistoryDelivery, HistoryPart, PastChat, PastMessage, Person
from bridge.ids import AccountId, Jid, LeaseEpoch, SpoolPosition, WhatsAppMessageId
from bridge.supabase.answers import HistoryState, Recorded
from bridge.supabase.client import RequestRefused

pytestmark = pytest.mark.anyio

OWN = Person(phone_jid=Jid("5511900000000@s.whatsapp.net"))
MARIA = Person(lid=Jid("1@lid"))


def part(*ids: str, progress: int = 100, last: bool = True, lost: bool = False) -> HistoryPart:
    messages = [
        PastMessage(
            id=WhatsAppMessageId(id_),
            sender=MARIA,
            from_me=False,
            sent_at=1.0,
            status="sent",
            message={"conversation": id_},
        )
        for id_ in ids
    ]
    chats = [PastChat(chat=Jid("1@lid"), peer=MARIA, messages=messages)] if ids else []
    return HistoryPart(own=OWN, progress=progress, share=1.0, last=last, lost=lost, chats=chats)


class FakeFeed:
    """Gives parts, then nothing until it is closed."""

    account = AccountId("a")
    epoch = LeaseEpoch(1)

    def __init__(self, *parts: HistoryPart) -> None:
        self._parts = parts
        self.closed = anyio.Event()
        self.confirmed: list[int] = []

    @property
    def history(self) -> AsyncIterator[HistoryDelivery]:
        return self._give()

    async def _give(self) -> AsyncIterator[HistoryDelivery]:
        for position, each in enumerate(self._parts, 1):
            yield HistoryDelivery(position=SpoolPosition(position), part=each)
        await self.closed.wait()

    async def confirm_history(self, position: SpoolPosition) -> None:
        self.confirmed.append(position)


class FakeRecords:
    """Keeps what was called; refuses messages with a bad id."""

    def __init__(self, feed: FakeFeed, state: HistoryState) -> None:
        self._feed = feed
        self._state = state
        self.calls: list[str] = []
        self.ids: list[str] = []
        self.progress: list[int] = []
        self.finished: list[str | None] = []

    async def record_history(
        self, account: AccountId, epoch: LeaseEpoch, history: dict[str, Any]
    ) -> Recorded:
        ids = [m["whatsapp_message_id"] for c in history["chats"] for m in c["messages"]]
        if "bad" in ids:
            raise RequestRefused("No.", "22023")
        self.calls.append("record")
        self.ids += ids
        self.progress.append(history["progress"])
        return Recorded(recorded=len(ids))

    async def begin_history(self, account: AccountId, epoch: LeaseEpoch) -> None:
        self.calls.append("begin")

    async def history_state(self, account: AccountId, epoch: LeaseEpoch, days: int) -> HistoryState:
        return self._state

    async def finish_history(
        self, account: AccountId, epoch: LeaseEpoch, warning: str | None
    ) -> None:
        self.calls.append("finish")
        self.finished.append(warning)
        self._feed.closed.set()

    async def report(
        self,
        account: AccountId | None,
        level: str,
        code: str,
        message: str,
        context: dict[str, Any] | None = None,
    ) -> None:
        self.calls.append(code)


async def imported(
    *parts: HistoryPart, linked: bool = True, status: str = "idle", shown: int = 0
) -> tuple[FakeFeed, FakeRecords]:
    feed = FakeFeed(*parts)
    records = FakeRecords(feed, HistoryState(sync_status=status, sync_progress=shown))
    event = anyio.Event()
    event.set()
    importing = HistoryImport(
        records, feed, seal=lambda _, media: media, last_quiet_s=0.01, quiet_s=0.02
    )
    with anyio.fail_after(20):
        await importing.run(event if linked else None)
    return feed, records


async def test_parts_are_recorded_in_order_then_confirmed_then_finished() -> None:
    feed, records = await imported(part("A", progress=40), part("B"), part("C"))
    assert records.ids == ["A", "B", "C"]
    assert records.calls[0] == "begin"
    assert records.calls[-1] == "finish"
    assert feed.confirmed[-1] == 3
    assert records.finished == [None]


async def test_nothing_begins_before_a_phone_is_linked() -> None:
    feed = FakeFeed(part("A"))
    records = FakeRecords(feed, HistoryState(sync_status="idle", sync_progress=0))
    importing = HistoryImport(records, feed, seal=lambda _, media: media)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(importing.run, anyio.Event())
        await anyio.wait_all_tasks_blocked()
        assert records.calls == []
        tasks.cancel_scope.cancel()


async def test_after_a_restart_it_goes_on_and_begins_nothing_anew() -> None:
    _, records = await imported(part("B", progress=100), linked=False, status="running", shown=57)
    assert "begin" not in records.calls
    assert all(progress >= 57 for progress in records.progress)
    assert records.finished == [None]


async def test_a_history_that_was_finished_is_left_alone() -> None:
    feed = FakeFeed()
    feed.closed.set()
    records = FakeRecords(feed, HistoryState(sync_status="done", sync_progress=100))
    importing = HistoryImport(records, feed, seal=lambda _, media: media)
    await importing.run(None)
    assert records.calls == []


@pytest.mark.parametrize(
    ("parts", "warning"),
    [
        ([], SENT_NOTHING),
        ([part(last=True, lost=True), part("A")], LOST_A_PART),
        ([part("A", "bad", "B")], REFUSED_A_PART),
    ],
)
async def test_what_is_missing_is_told(parts: list[HistoryPart], warning: str) -> None:
    _, records = await imported(*parts)
    assert records.finished == [warning]


async def test_a_phone_that_stops_half_way_is_told_with_how_far_it_came() -> None:
    _, records = await imported(part("A", progress=40))
    (warning,) = records.finished
    assert warning is not None
    assert "40 %" in warning


async def test_one_bad_message_costs_only_itself() -> None:
    feed, records = await imported(part("A", "B", "bad", "C", "D"))
    assert sorted(records.ids) == ["A", "B", "C", "D"]
    assert records.calls.count("history_refused") == 1
    assert feed.confirmed == [1]


@given(
    st.lists(st.tuples(st.integers(0, 100), st.floats(0, 1), st.booleans())),
    st.integers(0, 100),
)
def test_progress_only_rises(steps: list[tuple[int, float, bool]], shown: int) -> None:
    progress = Progress(shown, shown)
    seen = [shown]
    for percent, share, last in steps:
        told = HistoryPart(own=OWN, progress=percent, share=share, last=last)
        seen.append(progress.after(told))
    assert seen == sorted(seen)
    assert max(seen) <= 100


async def test_a_slow_database_gets_small_calls() -> None:
    ids = [[f"{number}.{place}" for place in range(LEAST_CALL_MESSAGES)] for number in range(6)]
    feed = FakeFeed(*(part(*each) for each in ids))
    records = FakeRecords(feed, HistoryState(sync_status="idle", sync_progress=0))
    sizes = []

    async def slow(account: AccountId, epoch: LeaseEpoch, history: dict[str, Any]) -> Recorded:
        sizes.append(sum(len(chat["messages"]) for chat in history["chats"]))
        return Recorded(recorded=1, held_s=1.0)

    records.record_history = slow  # type: ignore[method-assign]
    linked = anyio.Event()
    linked.set()
    with anyio.fail_after(20):
        await HistoryImport(
            records, feed, seal=lambda _, media: media, last_quiet_s=0.01, quiet_s=0.01
        ).run(linked)
    assert sizes == [LEAST_CALL_MESSAGES] * 6
