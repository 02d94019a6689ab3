"""The life of one session: start, pair, connect, send, end. Runs in engine processes.

neonize tells little about itself, so signs are read (see `gate` for why they matter):

* the log line "Dialing" and the QR callback come when its maps are written;
* the login callback comes just before it reads them again, event 0 (the device) after that.

It lacks deadlines: a pairing that nobody finishes never ends, a first connection to a server that
is away is given up without a word to Python. `tick` and `_returned` make signals of both.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec

from bridge.engine import downloads, endings, news, outcome, pictures, translate, upstream
from bridge.engine.gate import Gate, Hold
from bridge.engine.history import Announced
from bridge.engine.outcome import Refusal
from bridge.engine.plan import Leaks, Outlets, Plan
from bridge.engine.sender import Job, Sender
from bridge.engine.spelling import other_numbers, person_found
from bridge.engine.turns import Turns
from bridge.engine.whatsapp import compose
from bridge.engine.whatsapp.client import Client, Kind, RequestFailed
from bridge.errors import CommandError
from bridge.events import (
    Connected,
    Disconnected,
    EventNotUnderstood,
    MessageReceived,
    PairingCodeShown,
    PairingFailed,
    Person,
    PersonSeen,
    QrShown,
    SendSucceeded,
    SessionEnded,
    Signal,
    SpooledEvent,
)
from bridge.ids import GROUP_SERVER, PHONE_SERVER, CommandId, Jid, is_group, server_of
from bridge.orders import (
    AskGroup,
    AskPerson,
    CheckNumbers,
    DownloadMedia,
    FetchPicture,
    Logout,
    MarkRead,
    Outgoing,
    RejectCall,
    Request,
    ShowTyping,
    Uploaded,
    UploadMedia,
)

# whatsmeow qrchan.go: the first of six codes lives a minute, the others 20 s
FIRST_QR_S, NEXT_QR_S = 60.0, 20.0
QUIET_S = 0.1
FLUSH_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 2.0
# A message that is cut off from its answer may have been sent or not: worth a short wait.
ANSWER_TIMEOUT_S = 2.0

_DIALS = b"Dialing wss://"
_LOCKED = b"database is locked"

# whatsmeow errors.go: the media host's 403, 404 and 410
_GONE = ("status code 403", "status code 404", "status code 410")

_TRANSLATIONS: dict[Kind, Callable[[Any, Person], SpooledEvent | None]] = {
    Kind.MESSAGE: translate.message,
    Kind.UNDECRYPTABLE: translate.undecryptable,
    Kind.RECEIPT: translate.receipt,
    Kind.GROUP_CHANGED: news.group_changed,
    Kind.JOINED_GROUP: news.group_joined,
    Kind.PICTURE_CHANGED: news.picture_changed,
    Kind.CALL_OFFERED: news.call_offered,
    Kind.CALL_NOTICED: news.call_noticed,
    Kind.CALL_ACCEPTED: news.call_accepted,
    Kind.CALL_ENDED: news.call_ended,
}


class Connection:
    """One session: `start` it once; it ends by itself or by `close`, with one final signal."""

    def __init__(self, plan: Plan, outlets: Outlets, gate: Gate, leaks: Leaks) -> None:
        self._plan = plan
        self._out = outlets
        self._gate = gate
        self._leaks = leaks
        self._client = Client(plan.database, self)
        self._lock = threading.Condition()
        self._own: Person | None = None
        self._push_name: str | None = None
        self._online = False
        self._registered = False  # neonize's maps hold this client
        self._stopping = False
        self._ended = False
        self._hold: Hold | None = None
        self._busy = 0
        self._last_news = time.monotonic()
        self._deadline: float | None = None
        self._qr_count = 0
        self._told_lids: set[Jid] = set()
        self._turns = Turns()
        self._door: upstream.Door | None = None
        self._sender = Sender(self._send, self._hindrance, outlets.spool)
        self._runner = threading.Thread(target=self._run, name="neonize", daemon=True)
        self._shutting = False
        self._shut = threading.Event()

    # ------------------------------------------------------------------------------- starting

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
                if self._stopping:
                    return
            error = self._client.run(self._plan.device_name)
        finally:
            hold.release()
        if not self._stopping:
            self._end(endings.of_return(error, opened=self._registered, known=bool(self._own)))

    def _maps_written(self) -> None:
        with self._lock:
            if self._registered:
                return
            self._registered = True
        self._client.show_ticks()  # we are still alone in the gate
        if self._hold is not None:
            self._hold.share()

    # --------------------------------------------------------- called by the library (`Listener`)

    def on_log(self, entry: bytes) -> None:
        """Look for signs; the text is dropped."""
        if not self._registered:
            if _DIALS in entry:
                self._maps_written()
            return
        self._turns.look(entry)
        self._door = upstream.door_in(entry) or self._door
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
            with self._entering():
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
                if not self._stopping:
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
        with self._lock:
            self._busy += 1
        try:
            self._take(kind, proto)
        finally:
            with self._lock:
                self._busy -= 1
                self._last_news = time.monotonic()
                self._lock.notify_all()

    def on_history(self, event: memoryview) -> None:
        """Returns when all of it is on disk: WhatsApp gives it once."""
        with self._lock:
            self._busy += 1
        try:
            if self._out.histories is not None and self._own is not None:
                self._out.histories.keep(event, self._own)
        finally:
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
        if kind is Kind.MESSAGE and self._announces_history(proto):
            return
        if kind in _TRANSLATIONS:
            self._take_lasting(_TRANSLATIONS[kind](proto, own), proto)
        elif kind is Kind.TYPING:
            if (shown := translate.typing(proto)) is not None:
                self._out.signal(shown)
        elif kind is Kind.CONNECTED:
            self._connected(own)
        elif kind is Kind.DISCONNECTED:
            self._online = False
            self._out.signal(Disconnected())
        else:
            self._end(endings.of_event(kind.name, proto))

    def _take_lasting(self, event: SpooledEvent | None, proto: Any) -> None:
        if isinstance(event, MessageReceived) and proto.Message.HasField("pollUpdateMessage"):
            event = self._with_vote(event, proto)
        if event is not None:
            self._out.spool(event)

    def _announces_history(self, proto: Any) -> bool:
        histories = self._out.histories
        if histories is None or (announced := translate.announced_history(proto)) is None:
            return False
        histories.announce(announced)
        return True

    def _with_vote(self, event: MessageReceived, proto: Any) -> MessageReceived:
        """Votes are encrypted once more, with a secret of the poll that the session keeps."""
        with suppress(CommandError), self._entering():
            return msgspec.structs.replace(event, poll_vote=self._client.poll_vote(proto))
        return event

    def _connected(self, own: Person) -> None:
        assert own.phone_jid is not None
        self._deadline = None
        self._online = True
        self._out.signal(Connected(phone_jid=own.phone_jid, lid=own.lid, push_name=self._push_name))
        if self._out.histories is not None:
            self._out.histories.fetch(self._download_history, own)

    def _download_history(self, announced: Announced) -> bytes | None:
        """Blocks; None if WhatsApp does not have it any more.

        :raises CommandError: if it cannot be had now.
        """
        if not self._online or self._ended:
            raise outcome.NOT_CONNECTED.error()
        try:
            with self._entering():
                return self._client.download_history(announced)
        except RequestFailed as error:
            if any(sign in str(error) for sign in _GONE):
                return None
            raise outcome.error_of_request(str(error)) from None

    # ------------------------------------------------------------------------------- requests

    @contextmanager
    def _entering(self) -> Iterator[None]:
        """Around every call of the library.

        :raises CommandError: `session_over`, if the client is not in neonize's maps (any more).
        """
        with self._gate.entering():
            if self._stopping or not self._registered:
                raise outcome.SESSION_OVER.error()
            yield

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """The same for requests of the parent, which need a connection.

        :raises CommandError: if there is none, or the request fails.
        """
        if not self._online or self._ended:
            raise outcome.NOT_CONNECTED.error()
        try:
            with self._entering():
                yield
        except RequestFailed as error:
            raise outcome.error_of_request(str(error)) from None

    def enqueue(self, command_id: CommandId, to: Jid, order: Outgoing) -> None:
        """Send after what is queued already; the outcome is spooled.

        :raises CommandError: retryable, if it cannot be taken.
        """
        self._sender.put(Job(command_id, to, order))

    def _hindrance(self) -> Refusal | None:
        return None if self._online else outcome.NOT_CONNECTED

    def _send(self, job: Job) -> SpooledEvent:
        to = self._spelt_right(job.to)
        message = compose.message_of(job.order, to)
        self._turns.begin_send()
        try:
            with self._entering():
                sent = self._client.send(to, message)
        except CommandError:
            return outcome.SESSION_OVER.of(job.command_id)
        except RequestFailed as error:
            return outcome.refusal_of(str(error), in_group=is_group(job.to)).of(job.command_id)
        finally:
            self._turns.end_send()
        self._tell_lid_of(to)
        return SendSucceeded(command_id=job.command_id, id=sent.id, sent_at=sent.sent_at)

    def _spelt_right(self, to: Jid) -> Jid:
        """Under which of the Brazilian spellings WhatsApp has somebody new."""
        both, found = other_numbers(to), None
        if both and self._lid_of(to) is None:
            with suppress(CommandError, RequestFailed), self._entering():
                found = person_found(self._client.do(CheckNumbers(numbers=both)))
        if found is None or found.phone_jid in (None, to):
            return to  # as it was given; sending says what is wrong
        self._out.spool(PersonSeen(person=found))
        return found.phone_jid

    def _tell_lid_of(self, to: Jid) -> None:
        """WhatsApp answers from the LID: say whose it is, or receipts would find nobody."""
        lid = self._lid_of(to)
        if lid is not None and lid not in self._told_lids:
            self._told_lids.add(lid)
            self._out.spool(PersonSeen(person=Person(phone_jid=to, lid=lid)))

    def _lid_of(self, address: Jid) -> Jid | None:
        if server_of(address) == PHONE_SERVER:
            with suppress(CommandError), self._entering():
                return self._client.lid_of(address)
        return None

    def do(self, order: Request) -> Any:
        """Blocks; gives what the order says it answers.

        :raises CommandError: if it cannot be done (now).
        """
        match order:
            case MarkRead() | ShowTyping():
                # WhatsApp keeps direct chats under the LID now
                order = msgspec.structs.replace(order, chat=self._lid_of(order.chat) or order.chat)
            case RejectCall():
                # calls come from the LID
                caller = self._lid_of(order.caller) or order.caller
                order = msgspec.structs.replace(order, caller=caller)
            case AskGroup() if server_of(order.chat) != GROUP_SERVER:
                return None
            case FetchPicture():
                with self._asking():
                    there = self._client.do(order)
                return pictures.fetch(there, order)
            case AskPerson():
                person = self._lid_of(order.person) or order.person
                order = msgspec.structs.replace(order, person=person)
            case DownloadMedia():
                return downloads.download(order)  # neither the library nor a connection is needed
            case UploadMedia():
                return msgspec.to_builtins(self._upload(order))
        with self._asking():
            value = self._client.do(order)
        if isinstance(order, Logout):
            self._end(SessionEnded(code="logged_out"))
        return value

    def _upload(self, order: UploadMedia) -> Uploaded:
        large = upstream.is_large(order)
        if large and (self._door is None or not self._door.is_open):
            with self._asking():
                self._client.ask_for_door()  # its answer passes `on_log`
        if large and self._door is not None and self._door.is_open:
            return upstream.upload(order, self._door)
        with self._asking():
            return self._client.upload(order)

    # --------------------------------------------------------------------------------- ending

    def _end(self, last: Signal) -> None:
        """The session is over: say so once, and let go of neonize in the background."""
        with self._lock:
            if self._ended or self._stopping:
                return
            self._ended = True
            self._online = False
        self._deadline = None
        self._out.signal(last)
        threading.Thread(target=self._shut_down, name="shut down", daemon=True).start()

    def end_lease(self) -> None:
        """Nobody said that the account is still ours."""
        self._end(SessionEnded(code="lease_expired"))

    def close(self) -> None:
        """Disconnect, and wait until every event Go holds is in the spool. Blocks; idempotent."""
        with self._lock:
            may_answer = self._online and not self._ended
            self._ended = True
            self._online = False
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
            if self._registered:
                with self._gate.entering():
                    self._client.disconnect()
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
            self._stopping = True
        hold = self._gate.exclusive()
        try:
            if self._registered:
                self._client.stop()
                self._registered = False
                self._leaks.files += 1
        finally:
            hold.release()
        if self._runner.is_alive():
            if self._own is not None or not self._qr_count:  # else it waits for a QR for ever
                self._runner.join(STOP_TIMEOUT_S)
            if self._runner.is_alive():
                self._leaks.threads += 1
        self._client.release()
