"""Batches, order, retries, poison: nothing is lost, and one bad row costs one row."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import anyio
import pytest

from bridge.accounts.ledger import HELD_UP_AFTER, SendLedger
from bridge.errors import LeaseLost, SupabaseUnavailable
from bridge.events import (
    Delivery,
    MessageReceived,
    Person,
    SendFailed,
    SendStarted,
    SendSucceeded,
    SpooledEvent,
)
from bridge.ids import AccountId, CommandId, Jid, LeaseEpoch, SpoolPosition, WhatsAppMessageId
from bridge.ingest import BATCH_EVENTS, Ingest
from bridge.orders import AskGroup, Request
from bridge.supabase.answers import Attempt, Recorded, Retry
from bridge.supabase.client import RequestRefused

pytestmark = pytest.mark.anyio
COMMAND = CommandId("c1")
GROUP = Jid("120363000000000001@g.us")


def message(text: str, chat: str = "5511900000001@s.whatsapp.net") -> MessageReceived:
    jid = Jid(chat)
    return MessageReceived(
        id=WhatsAppMessageId(text),
        chat=jid,
        peer=None,
        sender=Person(phone_jid=Jid("5511900000001@s.whatsapp.net")),
        from_me=False,
        sent_at=0,
        message={"conversation": text},
    )


class FakeFeed:
    """A session that delivers what it was given and then ends."""

    account = AccountId("a1")
    epoch = LeaseEpoch(1)

    def __init__(self, *events: SpooledEvent) -> None:
        self._deliveries = [
            Delivery(position=SpoolPosition(place), event=event)
            for place, event in enumerate(events, start=1)
        ]
        self.confirmed: list[int] = []
        self.asked: list[str] = []
        self.answered = anyio.Event()

    @property
    def deliveries(self) -> AsyncIterator[Delivery]:
        return self._deliver()

    async def _deliver(self) -> AsyncIterator[Delivery]:
        for delivery in self._deliveries:
            yield delivery
        if self.asked_for_groups:
            await self.answered.wait()

    asked_for_groups = False

    async def confirm(self, position: SpoolPosition) -> None:
        self.confirmed.append(position)

    async def ask(self, order: Request) -> dict[str, Any]:
        assert isinstance(order, AskGroup)
        self.asked.append(order.chat)
        ana = {"jid": "1@lid", "phone_jid": None, "lid": "1@lid", "admin": True}
        return {"subject": "Entregas", "description": None, "participants": [ana]}


class FakeRecords:
    """Keeps batches; may fail first, refuse some texts, or not know groups."""

    def __init__(
        self,
        *,
        away: int = 0,
        refuses: Callable[[dict[str, Any]], bool] = lambda _: False,
        lost: bool = False,
    ) -> None:
        self._away = away
        self._refuses = refuses
        self._lost = lost
        self.batches: list[list[dict[str, Any]]] = []
        self.groups_unknown: list[Jid] = []
        self.on_group: Callable[[], None] = lambda: None

    async def record_events(
        self, account: AccountId, epoch: LeaseEpoch, events: Sequence[dict[str, Any]]
    ) -> Recorded:
        await anyio.wait_all_tasks_blocked()  # a database is slower than the reader
        if self._lost:
            raise LeaseLost("Another host runs this account now.")
        if self._away:
            self._away -= 1
            raise SupabaseUnavailable("away")
        if any(self._refuses(event) for event in events):
            raise RequestRefused("no", "22023")
        self.batches.append(list(events))
        if any(event["kind"] == "group" for event in events):
            self.on_group()
        return Recorded(recorded=len(events), groups_unknown=self.groups_unknown)

    @property
    def texts(self) -> list[str]:
        return [e["conteudo"] for batch in self.batches for e in batch if e["kind"] == "message"]

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [e for batch in self.batches for e in batch if e["kind"] == kind]


async def pump(
    feed: FakeFeed,
    records: FakeRecords,
    ledger: SendLedger | None = None,
    before_sent: Callable[[], Awaitable[None]] | None = None,
) -> list[int]:
    recorded: list[int] = []

    async def nothing() -> None:
        return

    await Ingest(records.record_events, seal=lambda _, media: {"sealed": list(media)}).pump(
        feed,
        ledger or SendLedger(),
        before_sent=before_sent or nothing,
        on_recorded=recorded.append,
    )
    return recorded


async def test_everything_is_recorded_in_order_and_in_bounded_batches() -> None:
    texts = [str(number) for number in range(3 * BATCH_EVENTS + 7)]
    feed, records = FakeFeed(*map(message, texts)), FakeRecords()
    recorded = await pump(feed, records)
    assert records.texts == texts
    assert max(map(len, records.batches)) <= BATCH_EVENTS
    assert len(records.batches) < 20
    assert feed.confirmed[-1] == recorded[-1] == len(texts)


async def test_nothing_is_confirmed_before_it_is_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bridge.supabase.patience.random.uniform", lambda _low, _high: 0)
    feed, records = FakeFeed(message("x")), FakeRecords(away=3)
    await pump(feed, records)
    assert records.texts == ["x"]
    assert feed.confirmed == [1]


async def test_a_poison_row_is_reported_and_skipped_alone() -> None:
    texts = [str(number) for number in range(50)]
    feed = FakeFeed(*map(message, texts))
    records = FakeRecords(refuses=lambda event: event.get("conteudo") == "31")
    await pump(feed, records)
    assert records.texts == [text for text in texts if text != "31"]
    [diagnostic] = records.of_kind("diagnostic")
    assert diagnostic["code"] == "event_refused"
    assert diagnostic["context"]["whatsapp_message_id"] == "31"
    assert feed.confirmed[-1] == 50


async def test_a_send_whose_outcome_is_refused_is_not_left_to_be_made_again() -> None:
    records = FakeRecords(refuses=lambda event: event["kind"] == "sent")
    sent = SendSucceeded(command_id=COMMAND, id=WhatsAppMessageId("W"), sent_at=0)
    await pump(FakeFeed(SendStarted(command_id=COMMAND), sent), records)
    [finished] = records.of_kind("command_finished")
    assert (finished["command_id"], finished["status"]) == (COMMAND, "unknown")
    assert records.of_kind("diagnostic")[0]["code"] == "event_refused"


async def test_a_lost_lease_ends_the_pump_and_confirms_nothing() -> None:
    feed = FakeFeed(message("x"))
    with pytest.raises(BaseExceptionGroup) as caught:
        await pump(feed, FakeRecords(lost=True))
    assert caught.group_contains(LeaseLost)
    assert feed.confirmed == []


async def test_the_state_is_safe_before_a_send_is_told() -> None:
    records = FakeRecords()
    order: list[str] = []

    async def before_sent() -> None:
        order.append(f"saved after {len(records.of_kind('sent'))} sent")

    sent = SendSucceeded(command_id=COMMAND, id=WhatsAppMessageId("W"), sent_at=0)
    await pump(FakeFeed(SendStarted(command_id=COMMAND), sent), records, None, before_sent)
    assert order == ["saved after 0 sent"]
    assert len(records.of_kind("sent")) == 1


async def test_a_started_send_stays_in_the_spool_until_its_outcome_is_recorded() -> None:
    ledger = SendLedger()
    feed = FakeFeed(message("a"), SendStarted(command_id=COMMAND), message("b"))
    await pump(feed, FakeRecords(), ledger)
    assert feed.confirmed[-1] == 1
    assert ledger.started() == [COMMAND]


async def test_a_send_that_holds_the_spool_up_becomes_unknown() -> None:
    texts = [str(number) for number in range(HELD_UP_AFTER + BATCH_EVENTS)]
    feed, records = FakeFeed(SendStarted(command_id=COMMAND), *map(message, texts)), FakeRecords()
    await pump(feed, records)
    [finished] = records.of_kind("command_finished")
    assert (finished["command_id"], finished["status"]) == (COMMAND, "unknown")
    assert feed.confirmed[-1] == len(texts) + 1


@pytest.mark.parametrize(
    ("attempt", "status", "retry_in_s"),
    [
        (Attempt(2, {"busy": Retry(4.0)}.get), "pending", 4.0),
        (Attempt(5, lambda _code: None), "failed", None),
    ],
)
async def test_a_send_that_did_not_leave_is_tried_again_or_fails(
    attempt: Attempt, status: str, retry_in_s: float | None
) -> None:
    ledger, records = SendLedger(), FakeRecords()
    entry = ledger.hand_over(COMMAND, attempt)
    failed = SendFailed(command_id=COMMAND, code="busy", sentence="Busy.", retryable=True)
    await pump(FakeFeed(SendStarted(command_id=COMMAND), failed), records, ledger)
    [finished] = records.of_kind("command_finished")
    assert (finished["status"], finished["retry_in_s"]) == (status, retry_in_s)
    assert finished["claim"] == attempt.claim
    assert entry.settled.is_set()


async def test_a_retry_of_an_earlier_run_is_left_to_the_settling() -> None:
    records = FakeRecords()
    failed = SendFailed(command_id=COMMAND, code="busy", sentence="Busy.", retryable=True)
    await pump(FakeFeed(failed), records)
    assert records.of_kind("command_finished") == []


async def test_a_group_without_a_name_is_asked_for_once() -> None:
    records = FakeRecords()
    records.groups_unknown = [GROUP]
    feed = FakeFeed(*(message(str(n), GROUP) for n in range(5)))
    feed.asked_for_groups = True
    records.on_group = feed.answered.set
    await pump(feed, records)
    assert feed.asked == [GROUP]
    [told] = records.of_kind("group")
    assert (told["subject"], told["description"]) == ("Entregas", "")
    assert told["participants"] == [{"phone_jid": None, "lid": "1@lid", "role": "admin"}]
