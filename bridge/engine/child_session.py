"""The engine process's end of one account's session: journal, pump, requests, lease.

It opens the spool, gives what is in it to the parent, and has a `Connection` to WhatsApp unless it
only replays. The parent's end is `bridge.engine.session`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from bridge.engine import frames, settled
from bridge.engine.barrier import Barrier
from bridge.engine.gate import Gate
from bridge.engine.histories import Histories
from bridge.engine.plan import Leaks, Outlets, Plan
from bridge.engine.questions import Questions
from bridge.engine.spool import MAX_RECORD_BYTES, Spool, SpoolClosed
from bridge.engine.wire import Wire
from bridge.errors import BridgeError, CommandError
from bridge.events import (
    EngineAlarm,
    EventNotUnderstood,
    PersonSeen,
    SendFailed,
    SendNamed,
    SendReleased,
    SendSucceeded,
    SessionEnded,
    Signal,
    SpooledEvent,
)
from bridge.ids import SpoolPosition
from bridge.orders import Transfer
from bridge.vault import AccountVault

if TYPE_CHECKING:
    from bridge.engine.connection import Connection

BATCH = 64
DISK_RETRY_S = 0.5

_event_encoder = msgspec.msgpack.Encoder()
_event_decoder: msgspec.msgpack.Decoder[SpooledEvent] = msgspec.msgpack.Decoder(SpooledEvent)

# What a send goes on with never waits for room in the journal: its start holds up confirmations.
_OF_SENDS = (SendNamed, SendReleased, SendSucceeded, SendFailed, PersonSeen, EngineAlarm)


class Session:
    """One account in this process: its spool, and WhatsApp unless it only replays."""

    def __init__(self, order: frames.Open, wire: Wire, gate: Gate, leaks: Leaks) -> None:
        self._order = order
        self._wire = wire
        self._gate = gate
        self._leaks = leaks
        self._lease_until: float | None = None
        self._spool: Spool | None = None
        self._histories = Histories(order, wire.send, wire.complain)
        self._questions = Questions(order.session, wire.send)
        self._whatsapp: Connection | None = None
        self._closing = threading.Lock()
        self._pump: threading.Thread | None = None
        self._requests = ThreadPoolExecutor(2, "requests")
        self._transfers = ThreadPoolExecutor(3, "transfers")  # files take minutes

    # ------------------------------------------------------------------------------- opening

    def open(self) -> bool:
        """Open the spool and begin; says `Opened` or `OpenFailed`. Blocks."""
        order = self._order
        try:
            self._spool = Spool(
                Path(order.spool_dir), AccountVault(order.keys), max_bytes=order.spool_max_bytes
            )
            self._histories.open()
            self._settle_sends()
        except BridgeError as error:
            self._fail(error.code, error.sentence)
            return False
        except OSError:
            self._fail("spool_unusable", "The spool directory cannot be read or written.")
            return False
        first, last = self._spool.first_unconfirmed, self._spool.last
        self._wire.send(
            frames.Opened(
                session=order.session,
                first=first,
                replay_until=last if last >= first else SpoolPosition(0),
            )
        )
        self._pump = threading.Thread(target=self._ship, name="pump", daemon=True)
        self._pump.start()
        if order.connect:
            self._connect()
        return True

    def _settle_sends(self) -> None:
        """Journal the outcomes that a killed engine could not: strict mode knows them."""
        written = self._order.written
        if written is not None:
            for event in settled.outcomes(self._journal(), written):
                self._append(event)

    def _journal(self) -> Iterator[SpooledEvent]:
        """What is unconfirmed, in order."""
        assert self._spool is not None
        cursor = self._spool.cursor()
        try:
            while records := self._spool.read(cursor, BATCH):
                for _, record in records:
                    try:
                        yield _event_decoder.decode(record)
                    except msgspec.MsgspecError:
                        continue  # of a newer version
        finally:
            cursor.close()

    def _fail(self, code: str, sentence: str) -> None:
        self._wire.send(
            frames.OpenFailed(session=self._order.session, code=code, sentence=sentence)
        )

    def _connect(self) -> None:
        from bridge.engine.connection import Connection  # noqa: PLC0415 - after load_library

        order = self._order
        plan = Plan(
            database=order.database,
            pair=order.pair,
            phone=order.phone,
            device_name=order.device_name,
            connect_timeout_s=order.connect_timeout_s,
            pairing_timeout_s=order.pairing_timeout_s,
            proxy=order.proxy,
        )
        outlets = Outlets(
            self._append, self._signal, self._wire.complain, self._histories, self._before_dial
        )
        self._whatsapp = Connection(plan, outlets, self._gate, self._leaks)
        if order.strict:
            assert self._spool is not None
            barrier = Barrier(
                self._questions,
                journal=self._append,
                sync=self._spool.sync,
                fail=self._whatsapp.end_unsafe,
            )
            self._whatsapp.hold_with(barrier, self._not_strict)
        self._whatsapp.start()

    def _not_strict(self) -> None:
        self._wire.send(frames.NotStrict(session=self._order.session))
        self._append(EngineAlarm(code="strict_unavailable"))

    # -------------------------------------------------------------------------------- events

    def _append(self, event: SpooledEvent) -> bool:
        """Into the journal; waits while it is full or the disk is."""
        assert self._spool is not None
        record = _event_encoder.encode(event)
        if len(record) > MAX_RECORD_BYTES:
            record = _event_encoder.encode(EventNotUnderstood(kind="too large an event"))
        complained = False
        while True:
            try:
                self._spool.append(record, waits=not isinstance(event, _OF_SENDS))
            except SpoolClosed:
                return False
            except OSError:
                if not complained:
                    complained = True
                    self._wire.complain("disk_full", "The spool cannot be written; it is tried on.")
                time.sleep(DISK_RETRY_S)
            else:
                return True

    def _signal(self, signal_: Signal) -> None:
        self._wire.send(frames.Signalled(session=self._order.session, signal=signal_))

    def _ship(self) -> None:
        """Pump: from the spool to the parent, at most ``window`` ahead of what it confirmed."""
        spool, order = self._spool, self._order
        assert spool is not None
        cursor = spool.cursor()
        try:
            while spool.wait_beyond(SpoolPosition(cursor.position), window=order.window):
                room = order.window - (cursor.position + 1 - spool.first_unconfirmed)
                for position, record in spool.read(cursor, max(1, min(BATCH, room))):
                    self._wire.send(
                        frames.Delivered(
                            session=order.session, position=position, event=msgspec.Raw(record)
                        )
                    )
        except BridgeError as error:
            self._wire.complain(error.code, "The spool was damaged while it was open.")
            self._signal(SessionEnded(code="connect_failure", detail=error.sentence))
        finally:
            cursor.close()

    # --------------------------------------------------------------------------- from the parent

    def confirm(self, position: SpoolPosition) -> None:
        """The database has everything up to here."""
        if self._spool is not None:
            self._spool.confirm(position)

    def done(self, answer: frames.Done) -> None:
        """The parent's answer to a question for a checkpoint."""
        self._questions.take(answer)

    def confirm_history(self, position: SpoolPosition) -> None:
        """The database has all parts of histories up to here."""
        self._histories.confirm(position)

    def extend_lease(self, ttl_s: float) -> None:
        """Counts from now."""
        self._lease_until = _clock_s() + ttl_s

    @property
    def _lease_is_over(self) -> bool:
        return self._lease_until is not None and _clock_s() >= self._lease_until

    def _before_dial(self) -> None:
        """Nothing is dialled without a lease.

        A lease ends in `tick`, unless the whole process stood still. Then whatsmeow finds its
        connection gone when it wakes up, and would dial before `tick` comes, and throw out the host
        that runs the account now. Its goroutine cannot be held back without its locks: so the
        process ends. All sessions of it stood still, and what they had is in their journals.
        """
        if self._lease_is_over:
            self._wire.complain("lease_over", "The engine stood still beyond its leases; it ends.")
            os._exit(frames.LEASE_OVER_EXIT)

    def tick(self, now: float) -> None:
        """Deadlines."""
        if self._whatsapp is None:
            return
        if self._lease_is_over:
            self._whatsapp.end_lease()
        self._whatsapp.tick(now)

    def request(self, frame: frames.Send | frames.Do) -> None:
        """Do it, at once or in a thread, and answer."""
        match frame:
            case frames.Send():
                # in the main loop: commands keep their order
                self._answer(
                    frame.request,
                    lambda whatsapp: whatsapp.enqueue(frame.command_id, frame.to, frame.order),
                )
            case frames.Do():
                pool = self._transfers if isinstance(frame.order, Transfer) else self._requests
                pool.submit(self._answer, frame.request, lambda whatsapp: whatsapp.do(frame.order))

    def _connected_whatsapp(self) -> Connection:
        if self._whatsapp is None:
            raise CommandError("The session is not connected.", code="session_over")
        return self._whatsapp

    def _answer(self, request: int, work: Callable[[Connection], Any]) -> None:
        session = self._order.session
        try:
            value = work(self._connected_whatsapp())
        except CommandError as error:
            self._wire.send(
                frames.Answer(
                    session=session,
                    request=request,
                    code=error.code,
                    sentence=error.sentence,
                    retryable=error.retryable,
                )
            )
        except Exception as error:  # noqa: BLE001 - a request's barrier: it must be answered
            self._wire.complain("request_failed", f"A request failed with {type(error).__name__}.")
            self._wire.send(
                frames.Answer(
                    session=session,
                    request=request,
                    code="engine_fault",
                    sentence="The engine stumbled over this request.",
                )
            )
        else:
            self._wire.send(frames.Answer(session=session, request=request, value=value))

    # -------------------------------------------------------------------------------- closing

    def disconnect(self) -> None:
        """Leave WhatsApp; everything in hand goes to the spool. Blocks; idempotent."""
        with self._closing:
            if self._spool is not None:
                self._spool.lift_limit()
            if self._whatsapp is not None:
                self._whatsapp.close()

    def disconnect_and_say_so(self) -> None:
        """`disconnect`, then tell the parent which delivery is the last."""
        self.disconnect()
        last = SpoolPosition(0) if self._spool is None else self._spool.last
        self._wire.send(frames.Quiet(session=self._order.session, last=last))

    def close(self) -> None:
        """`disconnect`, then close the spool. Blocks; idempotent."""
        self.disconnect()
        self._histories.close()
        if self._spool is not None:
            self._spool.close()
        if self._pump is not None:
            self._pump.join()
        for pool in (self._requests, self._transfers):
            pool.shutdown(wait=False, cancel_futures=True)
        self._wire.send(frames.Closed(session=self._order.session))


def _clock_s() -> float:
    """Goes on while the machine sleeps, unlike `time.monotonic`."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
