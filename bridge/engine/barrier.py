"""Holds back what one account is about to tell WhatsApp until it cannot be lost: strict mode.

whatsmeow says each stanza in its DEBUG log, by a synchronous call just before it writes it, and has
stored the session state behind it by then. So the callback is an exact place to wait:

1. What goes joins the current batch, and its goroutine blocks.
2. The parent takes a copy of the session file. It may contain the decryption of messages that are
   not in the journal yet.
3. When the journal has those, it is synced, and the parent makes the copy durable: a checkpoint.
4. The batch goes. One checkpoint serves all that waited for it.

For a send, 2 and 3 are one question to the parent, if nothing is between decryption and journal:
decryptions wait meanwhile, as they do during a send anyway (`engine.turns`).

After a kill the checkpoint takes the place of the session file: whatever WhatsApp was told had been
in it, and what it was not told comes again. What comes in is never held.

Every blocked goroutine pins a thread, so nothing more is read while many wait.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bridge.engine import stanzas
from bridge.engine.arrivals import Arrivals
from bridge.engine.frames import Leaving
from bridge.engine.stanzas import Decrypting, Ignored, Stanza
from bridge.events import EngineAlarm, SendReleased, SpooledEvent
from bridge.ids import CommandId, WhatsAppMessageId

MAX_HELD = 64
MAX_RECEIPTS = 2000
# A sign that does not come in this time, with nothing happening, is given up; see `_settle`.
RESCUE_S = 2.0
BUSY_RESCUE_S = 10.0
STUCK_S = 1.0
RECEIPT_S = 1.0
# So long a checkpoint may fail; then the session ends, and nothing that waited was told.
FAILING_S = 15.0
RETRY_S = 0.25
# Longer than the session lasts without a checkpoint: a decryption never overtakes a copy.
STILL_S = 30.0
LOOK_EVERY_S = 0.1


class Checkpoints(Protocol):
    """The parent, asked; both block, and say whether it was done."""

    def copy(self) -> bool:
        """Take a copy of the session file."""

    def commit(self, leaving: Sequence[Leaving], *, copy_first: bool) -> bool:
        """Make the last copy durable, or one that is taken now; note which sends leave."""


@dataclass(slots=True, eq=False)
class _Batch:
    held: int = 0
    leaving: list[Leaving] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    committed: bool = False


@dataclass(slots=True)
class _Current:
    """The send in hand."""

    command: CommandId
    thread: int
    released: bool = False


class Barrier:
    """One an account in strict mode. Thread-safe.

    Attributes:
        checkpoints: how many were made.
        rescues: how often a message was given up, see `EngineAlarm`.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        *,
        journal: Callable[[SpooledEvent], bool],
        sync: Callable[[], None],
        fail: Callable[[], None],
    ) -> None:
        """Prepare; `start` begins.

        Args:
            checkpoints: the parent.
            journal: appends to the journal.
            sync: returns when the journal is on the disk.
            fail: told that no checkpoint can be made: the session has to end.
        """
        self._parent = checkpoints
        self._journal = journal
        self._sync = sync
        self._fail = fail
        self._changed = threading.Condition()
        self._arrivals = Arrivals()
        self._receipts: dict[str, int] = {}
        self._batch = _Batch()
        self._waiting = 0
        self._going: _Batch | None = None
        self._is_open = self._refused = False
        self._still = False  # no decryption may begin
        self._blind = False
        self._seen_coming = self._seen_going = False
        self._current: _Current | None = None
        self._handling_since: float | None = None
        self._last_handled = time.monotonic()
        self.checkpoints = 0
        self.rescues = 0
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    # ------------------------------------------------------------- signs, in threads of Go

    def look(self, entry: bytes) -> None:
        """A log entry; returns when what it announces may happen."""
        if self._is_open:
            return
        if (stanza := stanzas.goes(entry)) is not None:
            self._goes(stanza)
        elif (stanza := stanzas.came(entry)) is not None:
            self._came(stanza)
        else:
            match stanzas.told(entry):
                case Decrypting():
                    with self._changed:
                        self._changed.wait_for(lambda: not self._still or self._is_open, STILL_S)
                        self._arrivals.decrypting()
                case Ignored(id=id_):
                    self._done(id_)

    def handling(self) -> None:
        """An event is about to be journaled."""
        self._handling_since = time.monotonic()

    def handled(self) -> None:
        """It was."""
        with self._changed:
            self._handling_since = None
            self._last_handled = time.monotonic()
            self._changed.notify_all()

    def message_handled(self, id_: str, *, undecryptable: bool = False) -> None:
        """The event of a ciphertext is in the journal, or not worth it.

        Args:
            id_: of the message.
            undecryptable: there will be no other event of it.
        """
        self._done(id_, whole=undecryptable)

    def receipt_handled(self, id_: str) -> None:
        """The event of a receipt, whose first message this is, is in the journal."""
        with self._changed:
            self._forget_receipt(id_)
            self._changed.notify_all()

    def _done(self, id_: str, *, whole: bool = False) -> None:
        with self._changed:
            if not self._arrivals.done(id_, whole=whole):
                self._blind = True
            self._changed.notify_all()

    def _came(self, stanza: Stanza) -> None:
        with self._changed:
            self._seen_coming = True
            if stanza.tag == "message":
                self._changed.wait_for(
                    lambda: self._waiting <= MAX_HELD or self._is_open, FAILING_S
                )
                self._arrivals.received(stanza.id, stanza.parts)
            elif stanza.tag == "receipt" and b"<participants" not in stanza.text:
                if len(self._receipts) < MAX_RECEIPTS:
                    self._receipts[stanza.id] = self._receipts.get(stanza.id, 0) + 1
            elif stanza.tag == "success":
                self._arrivals.logged_in()
                self._receipts.clear()

    def _forget_receipt(self, id_: str) -> None:
        count = self._receipts.pop(id_, 0)
        if count > 1:
            self._receipts[id_] = count - 1

    def _goes(self, stanza: Stanza) -> None:
        leaving: Leaving | None = None
        with self._changed:
            self._seen_going = True
            if stanza.is_ping:
                return
            acknowledges = stanza.acknowledges
            if stanza.tag == "receipt" or acknowledges == "message":
                self._arrivals.acknowledged(stanza.id, refused=stanza.refuses)
                self._changed.notify_all()
            elif acknowledges == "receipt":
                self._changed.wait_for(
                    lambda: stanza.id not in self._receipts or self._is_open, RECEIPT_S
                )
                self._receipts.pop(stanza.id, None)
            current = self._current
            if stanza.tag == "message" and current and current.thread == threading.get_ident():
                least, most = stanza.bounds
                leaving = Leaving(
                    id=WhatsAppMessageId(stanza.id), least_bytes=least, most_bytes=most
                )
        leaves = self._hold(leaving)
        if leaving is not None and current is not None and leaves:
            current.released = True
            self._journal(SendReleased(command_id=current.command, id=leaving.id, at=time.time()))

    def _hold(self, leaving: Leaving | None) -> bool:
        """Until it may go; gives False if the connection is closed by now, so that it will not."""
        with self._changed:
            if self._is_open:
                return self._refused
            batch = self._batch
            batch.held += 1
            if leaving is not None:
                batch.leaving.append(leaving)
            self._waiting += 1
            self._changed.notify_all()
        batch.over.wait()  # `_run` ends every batch, and `open_up` all of them
        with self._changed:
            self._waiting -= 1
            self._changed.notify_all()
        return batch.committed or self._refused

    # -------------------------------------------------------------------------- sending

    def begin_send(self, command: CommandId) -> None:
        """This thread sends from now on: the next `message` that it writes is this one."""
        self._current = _Current(command, threading.get_ident())

    @property
    def may_have_left(self) -> bool:
        """Whether the message in hand was let go."""
        return self._current is None or self._current.released

    def end_send(self) -> None:
        """It is written, or will not be."""
        self._current = None

    # -------------------------------------------------------------------------- checkpoints

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._batch.held or self._is_open)
                if self._is_open:
                    return
                batch, self._batch = self._batch, _Batch()
                self._going = batch
            if not self._checkpoint(batch):
                self._fail()
                return
            with self._changed:
                self._going = None
            batch.over.set()

    def _checkpoint(self, batch: _Batch) -> bool:
        if batch.leaving and self._be_still():
            try:
                done = self._until_done(lambda: self._commit(batch, copy_first=True))
            finally:
                self._move_on()
        else:
            done = self._until_done(self._parent.copy)
            if done:
                self._settle()
                done = self._until_done(lambda: self._commit(batch, copy_first=False))
        if not done:
            return False
        self.checkpoints += 1
        batch.committed = True
        return True

    def _be_still(self) -> bool:
        """Let no decryption begin; gives False, and lets them, if one is not journaled yet."""
        with self._changed:
            self._still = not self._arrivals.begun()
            return self._still

    def _move_on(self) -> None:
        with self._changed:
            self._still = False
            self._changed.notify_all()

    def _commit(self, batch: _Batch, *, copy_first: bool) -> bool:
        try:
            self._sync()
        except OSError:
            return False
        return self._parent.commit(batch.leaving, copy_first=copy_first)

    def _until_done(self, work: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + FAILING_S
        while not work():
            with self._changed:
                if self._is_open or time.monotonic() >= deadline:
                    return False
                self._changed.wait_for(lambda: self._is_open, RETRY_S)
        return True

    def _settle(self) -> None:
        """Until the journal has all that may be in the copy.

        Waits for ever while the journal is full: that is the back-pressure. But a sign that never
        comes (a fault of the library, an event that cannot be encoded) must not end the account.
        """
        began, lost = time.monotonic(), 0
        with self._changed:
            awaited = self._arrivals.begun()
            while not self._is_open and (pending := [each for each in awaited if each.pending]):
                self._changed.wait(LOOK_EVERY_S)
                if self._is_hopeless(began):
                    lost += self._arrivals.give_up([each for each in pending if each.pending])
        if lost:
            self.rescues += lost
            self._journal(EngineAlarm(code="strict_rescued"))

    def _is_hopeless(self, began: float) -> bool:
        now = time.monotonic()
        if self._handling_since is not None and now - self._handling_since > STUCK_S:
            return False
        quiet_s = now - max(began, self._last_handled)
        return quiet_s > RESCUE_S or now - began > BUSY_RESCUE_S

    # -------------------------------------------------------------------------- the end

    @property
    def holds(self) -> bool:
        """Whether it does its work (still)."""
        return not self._is_open

    @property
    def sees(self) -> bool:
        """Whether the log says what it has to; to be asked when the session is connected."""
        return self._seen_coming and self._seen_going and not self._blind

    def refuse(self) -> None:
        """Strict mode is over, and the session goes on: everything may go."""
        self._refused = True
        self.open_up()

    def open_up(self) -> None:
        """Hold nothing any more, because the connection is closed. Idempotent."""
        with self._changed:
            self._is_open = True
            batches = [self._batch, self._going]
            self._changed.notify_all()
        for batch in batches:
            if batch is not None:
                batch.over.set()
