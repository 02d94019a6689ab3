"""Rows out: what a session delivers is recorded in batches, and forgotten by the spool after that.

The first event of a quiet time goes at once; while it is being written, the next ones gather, as
many as the database records quickly. Nothing is dropped: without Supabase the loop waits, the
engine's window fills, and events stay in the sealed spool on disk.

An event is confirmed only when it is in the database, and a send's `SendStarted` only when its
outcome is: until then it is the evidence that a message may have left.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import anyio
import msgspec
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from loguru import logger

from bridge.errors import BridgeError
from bridge.events import Delivery
from bridge.ids import AccountId, CommandId, Jid, LeaseEpoch, SpoolPosition, WhatsAppMessageId
from bridge.normalise import Row, rows_of, to_json
from bridge.normalise.groups import row_of_group
from bridge.normalise.rows import (
    CommandFinishedRow,
    DiagnosticRow,
    MessageRow,
    SentRow,
)
from bridge.orders import AskGroup, Request
from bridge.supabase.answers import Attempt, Recorded
from bridge.supabase.batches import BatchSize
from bridge.supabase.client import RequestRefused
from bridge.supabase.patience import until_available

BATCH_EVENTS = 100
LEAST_BATCH_EVENTS = 20
BATCH_TEXT_CHARS = 500_000
GROUP_LOOKUPS = 4


class Feed(Protocol):
    """What is needed of a session."""

    @property
    def account(self) -> AccountId:
        """Whose."""

    @property
    def epoch(self) -> LeaseEpoch:
        """Of the lease it runs under."""

    @property
    def deliveries(self) -> AsyncIterator[Delivery]:
        """What happened, in order; ends when the session has ended."""

    async def confirm(self, position: SpoolPosition) -> None:
        """Everything up to here may be forgotten."""

    async def ask(self, order: Request) -> Any:
        """Ask WhatsApp for something."""


class Outcomes(Protocol):
    """Who keeps count of sends without an outcome."""

    def note(self, delivery: Delivery) -> None:
        """A delivery was read, in order."""

    def attempt_of(self, command: CommandId) -> Attempt | None:
        """The attempt that this process made; None if it was an earlier one's."""

    def recorded(self, deliveries: Sequence[Delivery]) -> None:
        """These are in the database now."""

    def floor(self) -> SpoolPosition | None:
        """Nothing behind this position may be confirmed yet; None = no limit."""

    def name_of(self, command: CommandId) -> WhatsAppMessageId | None:
        """Under which id its message left, if it did."""

    def abandoned(self, position: SpoolPosition) -> Mapping[CommandId, WhatsAppMessageId | None]:
        """Sends that started so long before `position` that they hold the spool up, and names."""


Records = Callable[[AccountId, LeaseEpoch, Sequence[dict[str, Any]]], Awaitable[Recorded]]
"""Writes a batch in one transaction, idempotently."""


@dataclass(slots=True, kw_only=True)
class _Pumping:
    """One session being pumped; see `Ingest.pump`.

    Attributes:
        groups_asked: groups that were asked for already.
        batch: how many events are recorded at once.
    """

    feed: Feed
    outcomes: Outcomes
    before_sent: Callable[[], Awaitable[None]]
    on_recorded: Callable[[SpoolPosition], None]
    groups_asked: set[Jid] = field(default_factory=set)
    batch: BatchSize = field(default_factory=lambda: BatchSize(LEAST_BATCH_EVENTS, BATCH_EVENTS))


class Ingest:
    """Pumps sessions into the database; one for all accounts, it keeps no state of any."""

    def __init__(
        self,
        records: Records,
        *,
        seal: Callable[[AccountId, dict[str, Any]], dict[str, Any]],
        files_came: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare.

        Args:
            records: writes to the database.
            seal: makes unreadable what opens a file at WhatsApp.
            files_came: called when messages with files were recorded.
        """
        self._records = records
        self._seal = seal
        self._files_came = files_came
        self._lookups = anyio.CapacityLimiter(GROUP_LOOKUPS)

    async def pump(
        self,
        feed: Feed,
        outcomes: Outcomes,
        /,
        *,
        before_sent: Callable[[], Awaitable[None]],
        on_recorded: Callable[[SpoolPosition], None],
    ) -> None:
        """Record everything that the session delivers; returns when it delivers no more.

        Args:
            feed: the session.
            outcomes: who keeps count of its sends.
            before_sent: awaited before a `sent` is recorded: the session state must be safe first.
            on_recorded: told the position up to which everything is in the database.

        Raises:
            LeaseLost: the account is no longer ours.
            EngineDied: from the session.
        """
        pumping = _Pumping(
            feed=feed, outcomes=outcomes, before_sent=before_sent, on_recorded=on_recorded
        )
        send, receive = anyio.create_memory_object_stream[Delivery](BATCH_EVENTS)
        async with anyio.create_task_group() as helpers:
            helpers.start_soon(_read, pumping.feed, send, name="read deliveries")
            async with receive:
                async for first in receive:
                    batch = _gather(first, receive, pumping.batch.now)
                    await self._record(pumping, batch, helpers)
            helpers.cancel_scope.cancel()

    async def _record(self, pumping: _Pumping, batch: list[Delivery], helpers: TaskGroup) -> None:
        rows: list[Row] = []
        for delivery in batch:
            pumping.outcomes.note(delivery)
            ruled = (_ruled(row, pumping.outcomes) for row in rows_of(delivery.event))
            rows += (row for row in ruled if row is not None)
        last = batch[-1].position
        rows += (_held_up(*late) for late in pumping.outcomes.abandoned(last).items())
        if any(isinstance(row, SentRow) for row in rows):
            await pumping.before_sent()
        groups = await self._write(pumping.feed, rows, pumping.batch) if rows else []
        pumping.outcomes.recorded(batch)
        floor = pumping.outcomes.floor()
        await pumping.feed.confirm(last if floor is None else min(last, floor))
        pumping.on_recorded(last)
        for group in groups:
            if group not in pumping.groups_asked:
                pumping.groups_asked.add(group)
                helpers.start_soon(self._learn_group, pumping.feed, group, name="ask for a group")

    async def _write(
        self, feed: Feed, rows: list[Row], batch: BatchSize | None = None
    ) -> list[Jid]:
        """Write rows in order; a row that the database refuses is reported and skipped."""
        events = [self._event_of(feed.account, row) for row in rows]
        try:
            answer = await until_available(
                lambda: self._records(feed.account, feed.epoch, events),
                what="record events",
            )
        except RequestRefused as refused:
            if len(rows) > 1:
                middle = len(rows) // 2
                return [
                    *await self._write(feed, rows[:middle]),
                    *await self._write(feed, rows[middle:]),
                ]
            await self._write_diagnostic(feed, rows[0], refused)
            return []
        if batch is not None:
            batch.took(len(rows), answer.held_s)
        if any(isinstance(row, MessageRow) and row.attachment is not None for row in rows):
            self._files_came()
        return answer.groups_unknown

    def _event_of(self, account: AccountId, row: Row) -> dict[str, Any]:
        if isinstance(row, MessageRow) and (file := row.attachment) is not None:
            sealed = self._seal(account, file.media) if file.media is not None else None
            row = msgspec.structs.replace(
                row, attachment=msgspec.structs.replace(file, media=None, sealed=sealed)
            )
        return to_json(row)

    async def _write_diagnostic(self, feed: Feed, row: Row, refused: RequestRefused) -> None:
        kind = type(row).__struct_config__.tag
        logger.error(
            "The database refuses an event; it is skipped",
            account=feed.account,
            kind=kind,
            sqlstate=refused.sqlstate,
            reason=refused.sentence,
        )
        if isinstance(row, DiagnosticRow):
            return
        context = {"kind": kind, "sqlstate": refused.sqlstate}
        if isinstance(row, MessageRow | SentRow):
            context["whatsapp_message_id"] = row.whatsapp_message_id
        diagnostic = DiagnosticRow(
            level="error",
            code="event_refused",
            message=f"An event could not be recorded and was skipped: {refused.sentence}",
            context=context,
        )
        # a send without an outcome would be taken for one that was never made
        ends = [_unrecorded(row)] if isinstance(row, SentRow) else []
        await self._write(feed, [*ends, diagnostic])

    async def _learn_group(self, feed: Feed, group: Jid) -> None:
        async with self._lookups:
            try:
                known = await feed.ask(AskGroup(chat=group))
            except BridgeError as fault:
                logger.info(
                    "A group could not be asked for",
                    account=feed.account,
                    code=fault.code,
                )
                return
            if known is not None:
                await self._write(feed, [row_of_group(group, known)])


async def _read(feed: Feed, send: MemoryObjectSendStream[Delivery]) -> None:
    async with send:
        async for delivery in feed.deliveries:
            await send.send(delivery)


def _gather(
    first: Delivery, receive: MemoryObjectReceiveStream[Delivery], most: int
) -> list[Delivery]:
    """What is there already, without waiting for more."""
    batch = [first]
    text_chars = 0
    while len(batch) < most and text_chars < BATCH_TEXT_CHARS:
        try:
            delivery = receive.receive_nowait()
        except (anyio.WouldBlock, anyio.EndOfStream):
            break
        batch.append(delivery)
        text_chars += _text_chars(delivery)
    return batch


def _text_chars(delivery: Delivery) -> int:
    """About the size of what a message brings: texts, captions, previews of pictures."""
    message = getattr(delivery.event, "message", None)
    return len(msgspec.json.encode(message)) if isinstance(message, dict) else 0


def _ruled(row: Row, outcomes: Outcomes) -> Row | None:
    """A send that ended: whether it is tried again, and which attempt that is about."""
    if not isinstance(row, CommandFinishedRow):
        return row
    if row.status == "unknown":
        row = msgspec.structs.replace(row, result=_named(outcomes.name_of(row.command_id)))
    attempt = outcomes.attempt_of(row.command_id)
    if attempt is None:
        # Told again after a restart. A later attempt may be under way, which this says nothing
        # about; the settling of the commands puts back what surely did not leave.
        return row if row.status != "pending" else None
    if row.status != "pending":
        return msgspec.structs.replace(row, claim=attempt.claim)
    retry = attempt.again(row.error_code or "")
    if retry is None:
        return msgspec.structs.replace(row, status="failed", claim=attempt.claim)
    return msgspec.structs.replace(
        row, claim=attempt.claim, retry_in_s=retry.after_s, counts=retry.counts
    )


def _unrecorded(row: SentRow) -> CommandFinishedRow:
    return CommandFinishedRow(
        command_id=row.command_id,
        status="unknown",
        result=_named(row.whatsapp_message_id),
        error_code="outcome_unknown",
        error_message="WhatsApp took the message, but that could not be recorded.",
    )


def _named(name: WhatsAppMessageId | None) -> dict[str, Any] | None:
    """By which a receipt may settle it later."""
    return {"whatsapp_message_id": name} if name is not None else None


def _held_up(command: CommandId, name: WhatsAppMessageId | None) -> CommandFinishedRow:
    return CommandFinishedRow(
        command_id=command,
        status="unknown",
        result=_named(name),
        error_code="outcome_unknown",
        error_message="WhatsApp did not say in time whether the message was sent.",
    )
