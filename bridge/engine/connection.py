"""The life of one session: start, pair, connect, end. Runs in engine processes.

What WhatsApp tells meanwhile goes through `reception`, messages leave by `dispatch`, everything
else is asked in `asking`.

neonize tells little about itself, so signs are read (see `gate` for why they matter):

* the log line "Dialing" and the QR callback come when its maps are written;
* the login callback comes just before it reads them again, event 0 (the device) after that.

It lacks deadlines: a pairing that nobody finishes never ends, a first connection to a server that
is away is given up without a word to Python. `tick` and `_run` make signals of both.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from bridge.engine import endings, outcome, translate
from bridge.engine.asking import Asker, Standing
from bridge.engine.barrier import Barrier
from bridge.engine.dispatch import Dispatch
from bridge.engine.gate import Gate, Hold
from bridge.engine.outcome import Refusal
from bridge.engine.plan import Leaks, Outlets, Plan
from bridge.engine.reception import Reception
from bridge.engine.sender import Job, Sender
from bridge.engine.turns import Turns
from bridge.engine.whatsapp.client import Client, Kind
from bridge.errors import CommandError
from bridge.events import (
    BlocklistChanged,
    ChatsChanged,
    Connected,
    Disconnected,
    EventNotUnderstood,
    PairingCodeShown,
    PairingFailed,
    Person,
    QrShown,
    SessionEnded,
    Signal,
)
from bridge.ids import CommandId, Jid
from bridge.orders import Block, Logout, Outgoing, Request

# whatsmeow qrchan.go: the first of six codes lives a minute, the others 20 s
FIRST_QR_S, NEXT_QR_S = 60.0, 20.0
QUIET_S = 0.1
FLUSH_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 2.0
# A message that is cut off from its answer may have been sent or not: worth a short wait.
ANSWER_TIMEOUT_S = 2.0

_DIALS = b"Dialing wss://"
_LOCKED = b"database is locked"
# neonize has no events for what other own devices say of chats. whatsmeow logs (appstate.go) when
# it has stored that: archive and pin are in one collection, mute in the other. Only the beginning
# of an entry is believed, where nobody else can write.
_CHATS_STORED = re.compile(
    rb"\n.(?:Synced|Full sync of) app state regular_(?:low|high) ", re.DOTALL
)


class Connection:
    """One session: `start` it once; it ends by itself or by `close`, with one final signal."""

    def __init__(self, plan: Plan, outlets: Outlets, gate: Gate, leaks: Leaks) -> None:
        self._plan = plan
        self._out = outlets
        self._gate = gate
        self._leaks = leaks
        self._client = Client(plan.database, self, proxy=plan.proxy)
        self._lock = threading.Condition()
        self._own: Person | None = None
        self._push_name: str | None = None
        self._standing = Standing()
        self._hold: Hold | None = None
        self._busy = 0
        self._last_news = time.monotonic()
        self._deadline: float | None = None
        self._qr_count = 0
        self._turns = Turns()
        self._barrier: Barrier | None = None
        self._not_strict: Callable[[], None] = lambda: None
        self._asker = Asker(self._client, gate, self._standing)
        self._reception = Reception(outlets, self._asker)
        self._dispatch = Dispatch(self._client, self._asker, self._turns, outlets.spool)
        self._sender = Sender(self._dispatch.send, self._hindrance, outlets.spool, self._holds)
        self._runner = threading.Thread(target=self._run, name="neonize", daemon=True)
        self._shutting = False
        self._shut = threading.Event()

    # ------------------------------------------------------------------------------- starting

    def hold_with(self, barrier: Barrier, refused: Callable[[], None]) -> None:
        """Strict mode; before `start`. ``refused``: told if it turns out to be impossible."""
        self._barrier = barrier
        self._not_strict = refused
        self._dispatch.hold_with(barrier)
        barrier.start()

    def _holds(self) -> bool:
        return self._barrier is not None and self._barrier.holds

    def start(self) -> None:
        """Connect in the background."""
        wait_s = self._plan.pairing_timeout_s if self._plan.pair else self._plan.connect_timeout_s
        self._deadline = time.monotonic() + wait_s
        self._runner.start()
        self._sender.start()

    def tick(self, now: float) -> None:
        """To be called a few times a second: enforces the deadlines that neonize lacks."""
        deadline = self._deadline
        if deadline is None or now < deadline:
            return
        self._deadline = None
        if self._plan.pair:
            self._end(PairingFailed(code="qr_expired"))
        else:
            self._end(SessionEnded(code="unreachable", detail="WhatsApp did not answer in time."))

    def _run(self) -> None:
        hold = self._gate.exclusive()
        try:
            with self._lock:
                self._hold = hold
                if self._standing.stopping:
                    return
            error = self._client.run(self._plan.device_name)
        finally:
            hold.release()
        if not self._standing.stopping:
            self._end(
                endings.of_return(error, opened=self._standing.registered, known=bool(self._own))
            )

    def _maps_written(self) -> None:
        with self._lock:
            if self._standing.registered:
                return
            self._standing.registered = True
        self._client.show_ticks()  # we are still alone in the gate
        if self._hold is not None:
            self._hold.share()

    # --------------------------------------------------------- called by the library (`Listener`)

    def on_log(self, entry: bytes) -> None:
        """Look for signs; the text is dropped."""
        if _DIALS in entry:
            self._out.before_dial()  # said by whatsmeow's goroutine just before it dials
        if not self._standing.registered:
            if _DIALS in entry:
                self._maps_written()
            return
        if (message_id := self._turns.look(entry)) is not None:
            self._sender.name(message_id)
        self._asker.look(entry)
        if self._barrier is not None:
            self._barrier.look(entry)
        if _CHATS_STORED.match(entry):
            self._out.signal(ChatsChanged())
        if _LOCKED in entry:
            self._out.complain("database_locked", "SQLite waited too long for a reader.")

    def on_qr(self, text: str) -> None:
        """Show it, or ask for a code instead."""
        self._maps_written()
        if self._hold is not None:
            self._hold.release()  # the late reads come after `on_login`
        self._qr_count += 1
        if self._plan.pair == "qr":
            valid_s = FIRST_QR_S if self._qr_count == 1 else NEXT_QR_S
            self._out.signal(QrShown(text=text, valid_s=valid_s))
        elif self._plan.pair == "code":
            if self._qr_count == 1:
                threading.Thread(target=self._ask_for_code, name="code", daemon=True).start()
        else:
            self._end(SessionEnded(code="logged_out", detail="No device is linked here."))

    def _ask_for_code(self) -> None:
        with suppress(CommandError):
            with self._asker.entering():
                code = self._client.pairing_code(self._plan.phone)
            if code is None:
                self._end(PairingFailed(code="pair_error"))
                return
            left_s = max(0.0, (self._deadline or 0.0) - time.monotonic())
            valid_s = min(left_s, FIRST_QR_S + 5 * NEXT_QR_S)
            self._out.signal(PairingCodeShown(code=code, valid_s=valid_s))

    def on_login(self, word: str) -> bool:
        """How pairing went."""
        if word == "success":
            hold = self._gate.shared()  # for the late reads; event 0 releases it
            with self._lock:
                self._hold = hold
                if not self._standing.stopping:
                    return True
            hold.release()
            return False
        ending = endings.of_pairing(word)
        if ending is None:
            return True
        self._end(ending)
        return False

    def on_event(self, kind: Kind, proto: Any) -> None:
        """Returns when the event is in the spool: the next one waits."""
        with self._handling():
            try:
                self._take(kind, proto)
            finally:
                if self._barrier is not None:
                    _tell(self._barrier, kind, proto)

    def on_history(self, event: memoryview) -> None:
        """Returns when all of it is on disk: WhatsApp gives it once."""
        with self._handling():
            if self._out.histories is not None and self._own is not None:
                self._out.histories.keep(event, self._own)

    @contextmanager
    def _handling(self) -> Iterator[None]:
        with self._lock:
            self._busy += 1
        if self._barrier is not None:
            self._barrier.handling()
        try:
            yield
        finally:
            if self._barrier is not None:
                self._barrier.handled()
            with self._lock:
                self._busy -= 1
                self._last_news = time.monotonic()
                self._lock.notify_all()

    def stumbled(self, where: str) -> None:
        """A callback raised: say so, and keep a trace of an event that is lost."""
        self._out.complain("callback_failed", "The engine could not handle what neonize told.")
        if where.startswith("event"):
            self._out.spool(EventNotUnderstood(kind=where))

    def _take(self, kind: Kind, proto: Any) -> None:
        if kind is Kind.DEVICE:
            self._own = Person(phone_jid=translate.jid(proto.JID), lid=translate.jid(proto.LID))
            self._push_name = proto.PushName or None
            if self._hold is not None:
                self._hold.release()
            return
        own = self._own
        assert own is not None
        if self._reception.take(kind, proto, own):
            return
        if kind is Kind.CONNECTED:
            self._connected(own)
        elif kind is Kind.DISCONNECTED:
            self._standing.online = False
            self._out.signal(Disconnected())
        else:
            self._end(endings.of_event(kind.name, proto))

    def _connected(self, own: Person) -> None:
        assert own.phone_jid is not None
        self._deadline = None
        if self._barrier is not None and self._barrier.holds and not self._barrier.sees:
            self._barrier.refuse()
            self._not_strict()
        self._standing.online = True
        self._out.signal(Connected(phone_jid=own.phone_jid, lid=own.lid, push_name=self._push_name))
        if self._out.histories is not None:
            self._out.histories.fetch(self._asker.download_history, own)

    # ------------------------------------------------------------------------------- requests

    def enqueue(self, command_id: CommandId, to: Jid, order: Outgoing) -> None:
        """Send after what is queued already; the outcome is spooled.

        :raises CommandError: retryable, if it cannot be taken.
        """
        self._sender.put(Job(command_id, to, order))

    def _hindrance(self) -> Refusal | None:
        return None if self._standing.online else outcome.NOT_CONNECTED

    def do(self, order: Request) -> Any:
        """Blocks; gives what the order says it answers.

        :raises CommandError: if it cannot be done (now).
        """
        value = self._asker.do(order)
        if isinstance(order, Logout):
            self._end(SessionEnded(code="logged_out"))
        elif isinstance(order, Block):
            self._out.signal(BlocklistChanged())  # WhatsApp tells the other devices only
        return value

    # --------------------------------------------------------------------------------- ending

    def _end(self, last: Signal) -> None:
        """The session is over: say so once, and let go of neonize in the background."""
        with self._lock:
            if self._standing.ended or self._standing.stopping:
                return
            self._standing.ended = True
            self._standing.online = False
        self._deadline = None
        self._out.signal(last)
        threading.Thread(target=self._shut_down, name="shut down", daemon=True).start()

    def end_unsafe(self) -> None:
        """Strict mode cannot be kept up: nothing that waits may be told."""
        self._out.complain("checkpoint_failed", "No checkpoint could be made; the session ends.")
        self._end(
            SessionEnded(code="connect_failure", detail="The session's state could not be kept.")
        )

    def end_lease(self) -> None:
        """Nobody said that the account is still ours."""
        self._end(SessionEnded(code="lease_expired"))

    def close(self) -> None:
        """Disconnect, and wait until every event Go holds is in the spool. Blocks; idempotent."""
        with self._lock:
            may_answer = self._standing.online and not self._standing.ended
            self._standing.ended = True
            self._standing.online = False
        self._deadline = None
        if may_answer:
            self._sender.end(ANSWER_TIMEOUT_S)
        self._shut_down()

    def _shut_down(self) -> None:
        with self._lock:
            first, self._shutting = not self._shutting, True
        if not first:
            self._shut.wait()
            return
        try:
            if self._standing.registered:
                with self._gate.entering():
                    self._client.disconnect()
            if self._barrier is not None:
                self._barrier.open_up()  # nothing can be written any more
            self._sender.end(FLUSH_TIMEOUT_S)
            self._wait_until_quiet()
            self._stop()
        finally:
            self._shut.set()

    def _wait_until_quiet(self) -> None:
        """Until Go's channel has run dry: it hands over its events one after another.

        Nothing in neonize tells that the channel is empty. Disconnected as it is, whatsmeow makes
        at most the events of the stanza in hand, so a pause is as good as a sign.
        """
        limit = time.monotonic() + FLUSH_TIMEOUT_S
        with self._lock:
            self._last_news = max(self._last_news, time.monotonic())
            while (now := time.monotonic()) < limit:
                if not self._busy and now - self._last_news >= QUIET_S:
                    return
                self._lock.wait(QUIET_S)

    def _stop(self) -> None:
        with self._lock:
            self._standing.stopping = True
        hold = self._gate.exclusive()
        try:
            if self._standing.registered:
                self._client.stop()
                self._standing.registered = False
                self._leaks.files += 1
        finally:
            hold.release()
        if self._runner.is_alive():
            if self._own is not None or not self._qr_count:  # else it waits for a QR for ever
                self._runner.join(STOP_TIMEOUT_S)
            if self._runner.is_alive():
                self._leaks.threads += 1
        self._client.release()


def _tell(barrier: Barrier, kind: Kind, proto: Any) -> None:
    """Say what is in the journal now."""
    if kind is Kind.MESSAGE or kind is Kind.UNDECRYPTABLE:
        barrier.message_handled(proto.Info.ID, undecryptable=kind is Kind.UNDECRYPTABLE)
    elif kind is Kind.RECEIPT and proto.MessageIDs:
        barrier.receipt_handled(proto.MessageIDs[0])
