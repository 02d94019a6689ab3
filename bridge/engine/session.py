"""The parent's end of one account's session: iterators out, commands in."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

import anyio
import msgspec

from bridge.engine import frames
from bridge.engine.committer import Committer
from bridge.engine.replica import Replica
from bridge.errors import AccountError, CommandError
from bridge.events import (
    Delivery,
    EventNotUnderstood,
    HistoryDelivery,
    SessionEnded,
    Signal,
    SpooledEvent,
)
from bridge.ids import AccountId, CommandId, Jid, LeaseEpoch, SpoolPosition
from bridge.orders import Outgoing, Request, Transfer

if TYPE_CHECKING:
    from bridge.engine.process import EngineProcess

_event_decoder: msgspec.msgpack.Decoder[SpooledEvent] = msgspec.msgpack.Decoder(SpooledEvent)

# The engine gives up on WhatsApp after 75 s and answers; this is for an engine that does not.
ANSWER_TIMEOUT_S = 120.0
# Two gigabytes at 5 Mbit/s.
TRANSFER_TIMEOUT_S = 3600.0


class EngineDied(AccountError):
    """The engine process is gone with every session in it. Open again: the spool has all events."""

    code = "engine_died"

    def __init__(self, sentence: str = "The engine process ended unexpectedly.") -> None:
        super().__init__(sentence)


class Keeper(Protocol):
    """What a session needs from the host."""

    async def session_closed(self, session: Session) -> None:
        """It is over."""

    async def forget(self, account: AccountId) -> None:
        """Delete the session file."""


T = TypeVar("T")


class Stream(Generic[T]):
    """An async iterator that one task reads and the engine's reader fills, without ever waiting.

    Ends normally (`finish`) or with `EngineDied` (`fail`), after what is in it was taken.
    """

    def __init__(self, *, newest_of_a_kind: bool = False) -> None:
        self._items: deque[T] = deque()
        self._newest_of_a_kind = newest_of_a_kind
        self._news = anyio.Event()
        self._finished = False
        self._error: EngineDied | None = None

    def put(self, item: T) -> None:
        """Add one; with ``newest_of_a_kind`` it takes the place of one of its type."""
        if self._finished:
            return
        if self._newest_of_a_kind:
            kept = [other for other in self._items if type(other) is not type(item)]
            self._items = deque(kept)
        self._items.append(item)
        self._news.set()

    def finish(self) -> None:
        """Nothing follows."""
        self._finished = True
        self._news.set()

    def fail(self, error: EngineDied) -> None:
        """Nothing follows, because the engine died."""
        if not self._finished:
            self._error = error
            self.finish()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            if self._error is not None:
                raise EngineDied(self._error.sentence)
            if self._finished:
                raise StopAsyncIteration
            self._news = anyio.Event()
            await self._news.wait()
        return self._items.popleft()


class Session:
    """One account's WhatsApp session in an engine process. Made by `EngineHost.open`.

    Attributes:
        account: whose.
        epoch: of the lease it runs under.
        replica: follows the session file; usable after `aclose` too, until `forget`.
        committer: makes the checkpoints of strict mode; None in standard mode.
    """

    def __init__(
        self,
        *,
        number: int,
        account: AccountId,
        epoch: LeaseEpoch,
        replica: Replica,
        engine: EngineProcess,
        keeper: Keeper,
        close_timeout_s: float,
    ) -> None:
        self.number = number
        self.account = account
        self.epoch = epoch
        self.replica = replica
        self.committer: Committer | None = None
        self._engine = engine
        self._keeper = keeper
        self._close_timeout_s = close_timeout_s
        self._deliveries: Stream[Delivery] = Stream()
        self._signals: Stream[Signal] = Stream(newest_of_a_kind=True)
        self._history: Stream[HistoryDelivery] = Stream()
        self._opened = anyio.Event()
        self._quiet = anyio.Event()
        self._closed = anyio.Event()
        self._replay_until = SpoolPosition(0)
        self._last_seen = SpoolPosition(0)
        self._last: SpoolPosition | None = None
        self._refusal: AccountError | None = None
        self._death: EngineDied | None = None
        self._closing = False
        self._requests = 0
        self._answers: dict[int, tuple[anyio.Event, list[frames.Answer]]] = {}

    # --------------------------------------------------------------------------- what happens

    @property
    def deliveries(self) -> AsyncIterator[Delivery]:
        """Spooled events in order of position: unconfirmed ones of earlier runs first, then live.

        One consumer. At most ``window`` deliveries are ahead of `confirm`; the engine holds the
        rest in its spool. Ends after the last one when `disconnect` was called, and after `aclose`.

        :raises EngineDied: if the process dies, after what it had delivered before.
        """
        return self._deliveries

    @property
    def history(self) -> AsyncIterator[HistoryDelivery]:
        """Parts of histories, in order of position: unconfirmed ones of earlier runs come first.

        One consumer, or none. Only a few parts are ahead of `confirm_history`.

        :raises EngineDied: if the process dies, after what it had delivered before.
        """
        return self._history

    @property
    def signals(self) -> AsyncIterator[Signal]:
        """What happens now; a newer signal of a kind replaces one that was not taken.

        One consumer. `SessionEnded` and `PairingFailed` are the last signals of a session, but the
        iterator ends only with `aclose`.

        :raises EngineDied: if the process dies.
        """
        return self._signals

    async def replayed(self) -> SpoolPosition:
        """Position of the last delivery that an earlier run left (0: none).

        Everything up to it is the past; when that is recorded, commands may be settled.

        :raises EngineDied: if the process dies.
        """
        await self._opened.wait()
        self._check_alive()
        return self._replay_until

    # --------------------------------------------------------------------------- what to do

    async def confirm(self, position: SpoolPosition) -> None:
        """Everything up to ``position`` is in the database: the spool forgets it. Never fails."""
        with suppress(EngineDied):
            await self._send(frames.Confirm(session=self.number, position=position))

    async def confirm_history(self, position: SpoolPosition) -> None:
        """All parts of histories up to here are in the database. Never fails."""
        with suppress(EngineDied):
            await self._send(frames.ConfirmHistory(session=self.number, position=position))

    async def send(self, command_id: CommandId, to: Jid, order: Outgoing) -> None:
        """Hand a message to the engine; returns when the engine has taken it.

        The outcome arrives as `SendStarted`, then `SendSucceeded` or `SendFailed` deliveries (a
        `SendFailed` may come without `SendStarted`: then nothing was tried).

        :raises EngineDied: if the process died before it said that it took the command. Whether it
            did is in the spool.
        :raises CommandError: `session_over` or `engine_busy`, retryable: it was not taken.
        """
        self._requests += 1
        await self._ask(
            frames.Send(
                session=self.number,
                request=self._requests,
                command_id=command_id,
                to=to,
                order=order,
            )
        )

    async def ask(self, order: Request) -> Any:
        """Have it done; returns what the order says it answers, in JSON's types.

        After a `Logout`, a `SessionEnded("logged_out")` signal follows.

        :raises CommandError: retryable, if WhatsApp cannot be asked now.
        :raises EngineDied: if the process dies.
        """
        self._requests += 1
        frame = frames.Do(session=self.number, request=self._requests, order=order)
        return (await self._ask(frame)).value

    async def extend_lease(self, ttl_s: float) -> None:
        """The session may run for ``ttl_s`` more; without extension the engine ends it by itself.

        Before the first call there is no limit. A session that ran out signals
        ``SessionEnded("lease_expired")``.

        :raises EngineDied: if the process dies.
        """
        await self._send(frames.Lease(session=self.number, ttl_s=ttl_s))

    # ------------------------------------------------------------------------------- the end

    async def disconnect(self) -> None:
        """First half of a graceful end: leave WhatsApp, with everything in hand in the spool.

        Afterwards `deliveries` ends by itself behind the last one, `confirm` still works, and the
        session file does not change any more. Bounded (``close_timeout_s``), idempotent.

        :raises EngineDied: if the process dies.
        """
        if self._closed.is_set():
            return
        await self._send(frames.Disconnect(session=self.number))
        with anyio.move_on_after(self._close_timeout_s):
            await self._quiet.wait()
        self._check_alive()

    async def aclose(self) -> None:
        """Disconnect, flush the spool, release it. Bounded, idempotent, never raises.

        What was not confirmed comes again with the next `open`. The session file stays (so
        `AccountFiles.local_state` finds it) until `forget`.
        """
        if not self._closing:
            self._closing = True
            with anyio.move_on_after(self._close_timeout_s, shield=True), suppress(EngineDied):
                await self._send(frames.Close(session=self.number))
                await self._closed.wait()
        self._deliveries.finish()
        self._signals.finish()
        self._history.finish()
        if self.committer is not None:
            self.committer.close()
        with anyio.CancelScope(shield=True):
            await self._keeper.session_closed(self)

    async def forget(self) -> None:
        """Delete the session file: its state is in the database, or worthless. After `aclose`."""
        await self._keeper.forget(self.account)

    # --------------------------------------------------- called by the engine's reader and host

    async def start(self, order: frames.Open) -> None:
        """Have the engine open it.

        :raises EngineDied: if the process dies.
        """
        await self._send(order)

    def end(self, code: str) -> None:
        """Whoever has it hears that it is over, as if its engine had said so, and closes it.

        `stopped` means: to be opened again at once.
        """
        self._signals.put(SessionEnded(code=code))

    async def reply(self, frame: frames.Done) -> None:
        """Answer a question of the engine for a checkpoint.

        :raises EngineDied: if the process died.
        """
        await self._send(frame)

    async def wait_opened(self) -> None:
        """Until the engine opened the spool.

        :raises AccountError: if it could not.
        :raises EngineDied: if the process dies.
        """
        await self._opened.wait()
        if self._refusal is not None:
            raise self._refusal
        self._check_alive()

    def take(self, frame: frames.ToParent) -> None:  # noqa: C901 - one line a kind
        """A frame of this session came."""
        match frame:
            case frames.Opened():
                self._replay_until = frame.replay_until
                self._last_seen = SpoolPosition(frame.first - 1)
                self._opened.set()
            case frames.OpenFailed():
                self._refusal = AccountError(frame.sentence, code=frame.code)
                self._opened.set()
            case frames.Delivered():
                self._deliver(frame)
            case frames.HistoryDelivered():
                self._history.put(HistoryDelivery(position=frame.position, part=frame.part))
            case frames.Signalled():
                self._signals.put(frame.signal)
            case frames.Answer():
                waiting = self._answers.get(frame.request)
                if waiting is not None:
                    waiting[1].append(frame)
                    waiting[0].set()
            case frames.Copy() | frames.Commit() | frames.NotStrict():
                if self.committer is not None:
                    self.committer.take(frame)
            case frames.Quiet():
                self._last = frame.last
                self._finish_if_last()
                self._quiet.set()
            case frames.Closed():
                self._closed.set()
            case _:
                return

    def _deliver(self, frame: frames.Delivered) -> None:
        event: SpooledEvent
        try:
            event = _event_decoder.decode(frame.event)
        except msgspec.MsgspecError:
            # written by a newer version, before somebody went back to this one
            event = EventNotUnderstood(kind="spooled by another version")
        self._deliveries.put(Delivery(position=frame.position, event=event))
        self._last_seen = frame.position
        self._finish_if_last()

    def _finish_if_last(self) -> None:
        if self._last is not None and self._last_seen >= self._last:
            self._deliveries.finish()

    @property
    def is_dead(self) -> bool:
        """Whether its engine process is gone."""
        return self._death is not None

    def die(self, error: EngineDied) -> None:
        """The process is gone."""
        self._death = error
        self._deliveries.fail(error)
        self._signals.fail(error)
        self._history.fail(error)
        if self.committer is not None:
            self.committer.close()
        self._opened.set()
        self._quiet.set()
        self._closed.set()
        for event, _ in self._answers.values():
            event.set()

    # -------------------------------------------------------------------------------- inside

    async def _ask(self, frame: frames.Send | frames.Do) -> frames.Answer:
        if self._closing:
            raise CommandError("The session is closed.", code="session_over", retryable=True)
        answered, answers = anyio.Event(), list[frames.Answer]()
        self._answers[frame.request] = (answered, answers)
        try:
            await self._send(frame)
            is_transfer = isinstance(frame, frames.Do) and isinstance(frame.order, Transfer)
            with anyio.move_on_after(TRANSFER_TIMEOUT_S if is_transfer else ANSWER_TIMEOUT_S):
                await answered.wait()
        finally:
            del self._answers[frame.request]
        if not answers:
            self._check_alive()
            raise CommandError(
                "The engine did not answer in time.", code="engine_timeout", retryable=True
            )
        answer = answers[0]
        if answer.code:
            raise CommandError(answer.sentence, code=answer.code, retryable=answer.retryable)
        return answer

    async def _send(self, frame: frames.ToEngine) -> None:
        self._check_alive()
        await self._engine.send(frame)

    def _check_alive(self) -> None:
        if self._death is not None:
            raise EngineDied(self._death.sentence)
