"""Histories in: what the phone sent of the past becomes rows, beside the live messages.

Parts come out of the engine's spool of histories in order, and are forgotten there when they are in
the database: whatever dies, the next session goes on where this one was. Nobody says which history
is the last: the phone tells percentages, so the end is when it has told 100, or nothing for long.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from loguru import logger

from bridge.events import HistoryDelivery, HistoryPart
from bridge.ids import AccountId, LeaseEpoch, SpoolPosition
from bridge.normalise.history import History, history_json, history_of
from bridge.supabase.answers import HistoryState, Recorded
from bridge.supabase.batches import BatchSize
from bridge.supabase.client import RequestRefused
from bridge.supabase.patience import until_available

CALL_MESSAGES = 500
CALL_CHATS = 60
# As many as the smallest part that comes may have.
LEAST_CALL_MESSAGES = 100
# No more than the engine gives out before the first is confirmed.
READ_AHEAD = 16
# After 100 percent names may follow; without them the phone may still be at it, or have been
# switched off.
LAST_QUIET_S = 3.0
QUIET_S = 120.0

SENT_NOTHING = "WhatsApp sent no history: the phone may be offline. Link it again to get one."
SENT_A_PART = "WhatsApp sent only a part of the history ({progress} %): the phone may be offline."
LOST_A_PART = "A part of the history was lost on the way. Link the phone again to get it."
REFUSED_A_PART = "A part of the history could not be recorded; see whatsapp_baileys_events."


class Feed(Protocol):
    """What is needed of a session."""

    @property
    def account(self) -> AccountId:
        """Whose."""

    @property
    def epoch(self) -> LeaseEpoch:
        """Of the lease it runs under."""

    @property
    def history(self) -> AsyncIterator[HistoryDelivery]:
        """Parts, in order."""

    async def confirm_history(self, position: SpoolPosition) -> None:
        """Everything up to here may be forgotten."""


class Records(Protocol):
    """What is needed of the database."""

    async def record_history(
        self, account: AccountId, epoch: LeaseEpoch, history: dict[str, Any]
    ) -> Recorded:
        """Write some parts in one transaction, idempotently."""

    async def begin_history(self, account: AccountId, epoch: LeaseEpoch) -> None:
        """A phone was linked."""

    async def history_state(self, account: AccountId, epoch: LeaseEpoch, days: int) -> HistoryState:
        """How far it is."""

    async def finish_history(
        self, account: AccountId, epoch: LeaseEpoch, warning: str | None
    ) -> None:
        """Everything that came is recorded."""

    async def report(
        self,
        account: AccountId | None,
        level: str,
        code: str,
        message: str,
        context: dict[str, Any] | None = None,
    ) -> None:
        """Leave a line for the operator."""


@dataclass(slots=True)
class Progress:
    """What the phone said, and what of it is recorded.

    Attributes:
        told: percent, of the histories that are recorded as a whole.
        shown: percent, of everything; only rises.
    """

    told: int = 0
    shown: int = 0

    def after(self, part: HistoryPart) -> int:
        """Percent when this part is recorded; remembers it."""
        ahead = max(0, part.progress - self.told)
        self.shown = max(self.shown, min(100, self.told + int(ahead * part.share)))
        if part.last:
            self.told = max(self.told, part.progress)
        return self.shown


class HistoryImport:
    """Runs once a session.

    `seal` makes unreadable what opens a file at WhatsApp; `recorded` is told that there is more.
    """

    def __init__(
        self,
        records: Records,
        feed: Feed,
        *,
        seal: Callable[[AccountId, dict[str, Any]], dict[str, Any]],
        recorded: Callable[[], None] = lambda: None,
        last_quiet_s: float = LAST_QUIET_S,
        quiet_s: float = QUIET_S,
    ) -> None:
        self._records = records
        self._feed = feed
        self._account = feed.account
        self._epoch = feed.epoch
        self._seal = seal
        self._recorded = recorded
        self._last_quiet_s = last_quiet_s
        self._quiet_s = quiet_s
        self._progress = Progress()
        self._batch = BatchSize(LEAST_CALL_MESSAGES, CALL_MESSAGES)
        self._came = 0
        self._lost = self._refused = False

    async def run(self, linked: anyio.Event | None) -> None:
        """Record what comes until the session ends.

        Args:
            linked: set when a phone is linked, and everything begins at 0; None = it was before.

        Raises:
            LeaseLost: the account is no longer ours.
            EngineDied: from the session.
        """
        open_ended = False
        if linked is None:
            state = await until_available(
                lambda: self._records.history_state(self._account, self._epoch, 0),
                what="look at the history",
            )
            open_ended = state.sync_status == "running"
            # 99 is shown until it is finished: then all of it may be here
            shown = state.sync_progress
            self._progress = Progress(100 if shown >= 99 else shown, shown)
        else:
            await linked.wait()
            await until_available(
                lambda: self._records.begin_history(self._account, self._epoch),
                what="begin a history",
            )
            open_ended = True
        send, receive = anyio.create_memory_object_stream[HistoryDelivery](READ_AHEAD)
        async with anyio.create_task_group() as helpers:
            helpers.start_soon(_read, self._feed.history, send, name="read histories")
            async with receive:
                await self._record_all(receive, open_ended=open_ended)
            helpers.cancel_scope.cancel()

    async def _record_all(
        self, receive: MemoryObjectReceiveStream[HistoryDelivery], *, open_ended: bool
    ) -> None:
        kept: HistoryDelivery | None = None
        while True:
            first = kept or await self._next(receive, open_ended=open_ended)
            kept = None
            if first is None:
                return
            open_ended = True
            batch, kept = _gather(first, receive, self._batch.now)
            await self._record(batch)
            await self._feed.confirm_history(batch[-1].position)

    async def _next(
        self, receive: MemoryObjectReceiveStream[HistoryDelivery], *, open_ended: bool
    ) -> HistoryDelivery | None:
        """The next part, waiting for it; what has no end is finished meanwhile."""
        try:
            if open_ended:
                complete = self._progress.told >= 100
                with anyio.move_on_after(self._last_quiet_s if complete else self._quiet_s):
                    return await receive.receive()
                await self._finish()
            return await receive.receive()
        except anyio.EndOfStream:
            return None

    async def _record(self, batch: Sequence[HistoryDelivery]) -> None:
        parts = [delivery.part for delivery in batch]
        self._came += len(parts)
        self._lost = self._lost or any(part.lost for part in parts)
        progress = max(self._progress.after(part) for part in parts)
        history = history_of(parts, progress=progress)
        await self._write(history.sealed(lambda media: self._seal(self._account, media)))

    async def _write(self, history: History) -> None:
        """Write it; what the database refuses is reported and left out."""
        told = history_json(history)
        try:
            answer = await until_available(
                lambda: self._records.record_history(self._account, self._epoch, told),
                what="record a history",
            )
        except RequestRefused as refused:
            halves = history.halves()
            if halves is None:
                self._refused = True
                await self._tell_refused(refused)
                return
            for half in halves:
                await self._write(half)
        else:
            self._batch.took(sum(len(chat.messages) for chat in history.chats), answer.held_s)
            if answer.recorded:
                self._recorded()

    async def _tell_refused(self, refused: RequestRefused) -> None:
        logger.error(
            "The database refuses a part of a history; it is skipped",
            account=self._account,
            sqlstate=refused.sqlstate,
            reason=refused.sentence,
        )
        await until_available(
            lambda: self._records.report(
                self._account,
                "error",
                "history_refused",
                f"A part of the history was skipped: {refused.sentence}",
                {"sqlstate": refused.sqlstate},
            ),
            what="report",
        )

    async def _finish(self) -> None:
        warning = self._warning()
        logger.info("The history is recorded", parts=self._came, complete=warning is None)
        await until_available(
            lambda: self._records.finish_history(self._account, self._epoch, warning),
            what="finish a history",
        )

    def _warning(self) -> str | None:
        if self._refused:
            return REFUSED_A_PART
        if self._lost:
            return LOST_A_PART
        if self._progress.told >= 100:
            return None
        if not self._came and not self._progress.shown:
            return SENT_NOTHING
        return SENT_A_PART.format(progress=self._progress.told)


async def _read(
    history: AsyncIterator[HistoryDelivery], send: MemoryObjectSendStream[HistoryDelivery]
) -> None:
    async with send:
        async for delivery in history:
            await send.send(delivery)


def _gather(
    first: HistoryDelivery,
    receive: MemoryObjectReceiveStream[HistoryDelivery],
    most_messages: int,
) -> tuple[list[HistoryDelivery], HistoryDelivery | None]:
    """What is there already and fits one call; and the one that did not fit."""
    batch, (messages, chats) = [first], _size(first)
    while True:
        try:
            delivery = receive.receive_nowait()
        except (anyio.WouldBlock, anyio.EndOfStream):
            return batch, None
        more = _size(delivery)
        messages, chats = messages + more[0], chats + more[1]
        if messages > most_messages or chats > CALL_CHATS:
            return batch, delivery
        batch.append(delivery)


def _size(delivery: HistoryDelivery) -> tuple[int, int]:
    chats = delivery.part.chats
    return sum(len(chat.messages) for chat in chats), len(chats)
