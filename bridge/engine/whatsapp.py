"""One WhatsApp session through neonize: the only module that imports it. Runs in engine processes.

neonize is used below its `NewClient.connect`: `Neonize()` is called here, in a thread of ours, so
that every callback is ours too. That matters because

* the event callback has to *block* until the event is in the spool (whatsmeow acknowledges what it
  has queued: this bounds what a crash can lose, and is the back-pressure);
* the callbacks are the only signs of when neonize touches its global maps (see `gate`): the log
  line "Dialing" and the QR callback come after the writes, the login callback just before the late
  reads, event 0 after them. That needs the DEBUG log; its lines are looked at and dropped, never
  written anywhere;
* a pairing that failed never ends: `FetchMe` spins until a device id exists. Its thread is parked
  in the login callback for good instead, which costs no CPU and reads no map. Such threads are
  counted (`Leaks`), and the process is replaced when it is idle.

A client's name in the maps is new each time: with a stale one the finalizer of a dead Python object
would stop its successor. We never let the finalizer run anyway.
"""

from __future__ import annotations

import ctypes
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pylibmagic  # noqa: F401 - puts libmagic where neonize's import finds it
from neonize._binder import (
    func_callback_bytes,
    func_callback_bytes2,
    func_string,
    gocode,
)
from neonize.client import NewClient
from neonize.exc import NeonizeError
from neonize.proto import Neonize_pb2 as wire
from neonize.proto.waCompanionReg.WAWebProtobufsCompanionReg_pb2 import DeviceProps
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message
from neonize.utils.enum import ReceiptType
from neonize.utils.jid import build_jid

from bridge.engine import outcome, translate
from bridge.engine.gate import Gate, Hold
from bridge.engine.outcome import Refusal
from bridge.engine.plan import Leaks, Outlets, Plan
from bridge.engine.sender import Job, Sender
from bridge.engine.turns import Turns
from bridge.errors import CommandError
from bridge.events import (
    Connected,
    Disconnected,
    EventNotUnderstood,
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
from bridge.ids import GROUP_SERVER, PHONE_SERVER, CommandId, Jid, WhatsAppMessageId, server_of

# neonize.events.EVENT_TO_INT
_DEVICE, _CONNECTED, _LOGGED_OUT, _REPLACED, _BANNED = 0, 3, 6, 7, 8
_CONNECT_FAILURE, _OUTDATED, _DISCONNECTED = 9, 10, 12
_MESSAGE, _RECEIPT, _JOINED, _GROUP, _UNDECRYPTABLE = 17, 18, 21, 22, 44
_SUBSCRIBED = bytes(
    [
        _CONNECTED,
        _LOGGED_OUT,
        _REPLACED,
        _BANNED,
        _CONNECT_FAILURE,
        _OUTDATED,
        _DISCONNECTED,
        _MESSAGE,
        _RECEIPT,
        _JOINED,
        _GROUP,
        _UNDECRYPTABLE,
    ]
)

# whatsmeow qrchan.go: the first of six codes lives a minute, the others 20 s
FIRST_QR_S, NEXT_QR_S = 60.0, 20.0
QUIET_S = 0.1
FLUSH_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 2.0
_DIALS = b"Dialing wss://"
_LOCKED = b"database is locked"
# WhatsApp shows it on the phone's notification; the form "Browser (OS)" is checked by the server
_PAIRING_NAME = "Chrome (Linux)"
_PAIRING_BROWSER = 1

# No fsync: the file is worthless after a power cut (another boot id), the replica is used then.
# The last parameter swallows the "?_foreign_keys=on" that neonize appends.
_DATABASE = "{path}?_foreign_keys=on&_sync=OFF&_busy_timeout=10000&_rest="


class WhatsApp:
    """One session: `start` it once; it ends by itself or by `close`, with one final signal."""

    def __init__(self, plan: Plan, outlets: Outlets, gate: Gate, leaks: Leaks) -> None:
        self._plan = plan
        self._out = outlets
        self._gate = gate
        self._leaks = leaks
        self._name = uuid.uuid4().hex.encode()
        self._client = NewClient(plan.database, uuid=self._name.decode())
        self._client._stop_finalizer.detach()  # noqa: SLF001 - it would call Stop outside the gate
        self._lock = threading.Condition()
        self._own: Person | None = None
        self._push_name: str | None = None
        self._online = False
        self._ever_online = False
        self._registered = False  # neonize's maps hold this client
        self._stopping = False
        self._ended = False
        self._hold: Hold | None = None
        self._busy = 0
        self._last_news = time.monotonic()
        self._deadline: float | None = None
        self._qr_count = 0
        self._turns = Turns()
        self._told_lids: set[Jid] = set()
        self._sender = Sender(self._send, self._hindrance, outlets.spool)
        self._runner = threading.Thread(target=self._run, name="neonize", daemon=True)
        self._callbacks = _Callbacks(self)
        self._shut = threading.Event()
        self._shutting = False

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
        props = DeviceProps(
            os=self._plan.device_name, platformType=DeviceProps.CHROME
        ).SerializeToString()
        database = _DATABASE.format(path=self._plan.database).encode()
        subscribed = ctypes.create_string_buffer(_SUBSCRIBED, len(_SUBSCRIBED))
        hold = self._gate.exclusive()
        try:
            with self._lock:
                self._hold = hold
                if self._stopping:
                    return
            error: bytes = gocode.Neonize(
                database,
                self._name,
                b"",
                0,
                0,
                b"DEBUG",
                *self._callbacks.functions,
                subscribed,
                len(_SUBSCRIBED),
                props,
                len(props),
                b"",
                0,
                None,
            )
        finally:
            hold.release()
        self._returned(error.decode("utf-8", "replace"))

    def _returned(self, error: str) -> None:
        """`Neonize` came back: it was stopped, or could not connect, or stumbled over an event."""
        if self._stopping:
            return
        if not self._registered:
            ending = SessionEnded(
                code="connect_failure", detail="The session file could not be opened."
            )
        elif self._own is None and not self._ever_online:
            ending = SessionEnded(code="unreachable", detail="WhatsApp could not be reached.")
        elif "LoggedOut" in error:
            # an event without its (required) reason cannot be encoded; its loop ends with this
            ending = SessionEnded(code="logged_out")
        elif "TemporaryBan" in error:
            ending = SessionEnded(code="banned")
        else:
            ending = SessionEnded(code="connect_failure", detail="The engine lost this session.")
        self._end(ending)

    # ------------------------------------------------------- callbacks: on threads of Go, no raise

    def on_log(self, data: int, size: int) -> None:
        """A log line, in the goroutine that logs; signs only, the text is dropped."""
        try:
            if not data or size <= 0:
                return
            entry = ctypes.string_at(data, size)
            if self._registered:
                self._turns.look(entry)
                if _LOCKED in entry:
                    self._out.complain("database_locked", "SQLite waited too long for a reader.")
            elif _DIALS in entry:
                self._maps_written()
        except Exception:  # noqa: BLE001 - must not reach Go
            self._out.complain("log_callback", "A log line of the engine could not be read.")

    def _maps_written(self) -> None:
        with self._lock:
            if self._registered:
                return
            self._registered = True
        # Without it whatsmeow says "inactive" for every message it takes, and the other person
        # never sees the second tick. We are still alone in the gate.
        gocode.SetForceActiveDeliveryReceipts(self._name, True)
        if self._hold is not None:
            self._hold.share()

    def on_qr(self, _name: int, text: int) -> None:
        """A QR text, in its thread of Go."""
        try:
            self._maps_written()
            if self._hold is not None:
                self._hold.release()  # the late reads come after the login callback
            self._qr_count += 1
            if self._plan.pair == "qr":
                valid_s = FIRST_QR_S if self._qr_count == 1 else NEXT_QR_S
                self._out.signal(QrShown(text=ctypes.string_at(text).decode(), valid_s=valid_s))
            elif self._plan.pair == "code":
                if self._qr_count == 1:
                    threading.Thread(target=self._ask_for_code, name="code", daemon=True).start()
            else:
                self._end(SessionEnded(code="logged_out", detail="No device is linked here."))
        except Exception:  # noqa: BLE001 - must not reach Go
            self._out.complain("qr_callback", "A QR could not be handed over.")

    def _ask_for_code(self) -> None:
        params = wire.PairPhoneParams(
            phone=self._plan.phone,
            clientDisplayName=_PAIRING_NAME,
            clientType=_PAIRING_BROWSER,
            showPushNotification=True,
        ).SerializeToString()
        try:
            with self._entering():
                raw: bytes = gocode.PairPhone(self._name, params, len(params))
        except CommandError:
            return
        answer = wire.PairPhoneReturnFunction.FromString(raw)
        if answer.Error or not answer.Code:
            self._end(PairingFailed(code="pair_error"))
        else:
            left_s = max(0.0, (self._deadline or 0.0) - time.monotonic())
            valid_s = min(left_s, FIRST_QR_S + 5 * NEXT_QR_S)
            self._out.signal(PairingCodeShown(code=answer.Code, valid_s=valid_s))

    def on_login(self, _name: int, status: int) -> None:
        """How pairing went. On return neonize reads its maps, so a failure never returns."""
        try:
            word = ctypes.string_at(status).decode()
            if word == "err-scanned-without-multidevice":
                return  # not the end: the next QR follows
            if word == "success":
                hold = self._gate.shared()
                with self._lock:
                    alive = not self._stopping
                    self._hold = hold
                if alive:
                    return  # event 0 releases it
                hold.release()
            elif word == "timeout":
                self._end(PairingFailed(code="qr_expired"))
            elif word == "err-client-outdated":
                self._end(SessionEnded(code="outdated"))
            else:
                self._end(PairingFailed(code="pair_error"))
        except Exception:  # noqa: BLE001 - must not reach Go
            self._out.complain("login_callback", "The end of a pairing could not be handled.")
        threading.Event().wait()

    def on_event(self, _name: bytes, data: int, size: int, code: int) -> None:
        """Blocks until the event is in the spool: the next one waits."""
        with self._lock:
            self._busy += 1
        try:
            self._take_event(ctypes.string_at(data, size) if size else b"", code)
        except Exception:  # noqa: BLE001 - must not reach Go
            self._out.complain("event_callback", "An event of the engine could not be read.")
            self._out.spool(EventNotUnderstood(kind=f"event {code}"))
        finally:
            with self._lock:
                self._busy -= 1
                self._last_news = time.monotonic()
                self._lock.notify_all()

    def _take_event(self, data: bytes, code: int) -> None:
        if code == _DEVICE:
            self._take_device(wire.Device.FromString(data))
            return
        own = self._own
        assert own is not None
        event: SpooledEvent | None
        if code == _MESSAGE:
            event = translate.message(wire.Message.FromString(data), own)
        elif code == _RECEIPT:
            event = translate.receipt(wire.Receipt.FromString(data), own)
        elif code == _UNDECRYPTABLE:
            event = translate.undecryptable(wire.UndecryptableMessage.FromString(data), own)
        elif code == _GROUP:
            event = translate.group_changed(wire.GroupInfoEvent.FromString(data))
        elif code == _JOINED:
            event = translate.group_joined(wire.JoinedGroup.FromString(data))
        else:
            self._take_state(data, code)
            return
        if event is not None:
            self._out.spool(event)

    def _take_device(self, device: Any) -> None:
        self._own = Person(phone_jid=translate.jid(device.JID), lid=translate.jid(device.LID))
        self._push_name = device.PushName or None
        if self._hold is not None:
            self._hold.release()

    def _take_state(self, data: bytes, code: int) -> None:
        if code == _CONNECTED:
            self._deadline = None
            self._online = self._ever_online = True
            own = self._own
            assert own is not None
            assert own.phone_jid is not None
            self._out.signal(
                Connected(phone_jid=own.phone_jid, lid=own.lid, push_name=self._push_name)
            )
        elif code == _DISCONNECTED:
            self._online = False
            self._out.signal(Disconnected())
        elif code == _LOGGED_OUT:
            self._end(SessionEnded(code="logged_out"))
        elif code == _REPLACED:
            self._end(SessionEnded(code="replaced"))
        elif code == _BANNED:
            ban = wire.TemporaryBan.FromString(data)
            self._end(SessionEnded(code="banned", retry_after_s=float(ban.Expire) or None))
        elif code == _OUTDATED:
            self._end(SessionEnded(code="outdated"))
        elif code == _CONNECT_FAILURE:
            reason = wire.ConnectFailure.FromString(data).Reason
            name = wire.ConnectFailureReason.Name(reason).lower()
            self._end(SessionEnded(code="connect_failure", detail=name))
        else:
            self._out.spool(EventNotUnderstood(kind=f"event {code}"))

    # ------------------------------------------------------------------------------- API calls

    @contextmanager
    def _entering(self) -> Iterator[None]:
        """Around every call into Go.

        :raises CommandError: `session_over`, if the client is not in neonize's maps (any more).
        """
        with self._gate.entering():
            if self._stopping or not self._registered:
                raise outcome.SESSION_OVER.error()
            yield

    def enqueue_text(self, command_id: CommandId, to: Jid, text: str) -> None:
        """Send after what is queued already; the outcome is spooled.

        :raises CommandError: retryable, if it cannot be taken.
        """
        self._sender.put(Job(command_id, to, text))

    def _hindrance(self) -> Refusal | None:
        return None if self._online else outcome.NOT_CONNECTED

    def _send(self, job: Job) -> SpooledEvent:
        user, _, server = job.to.partition("@")
        to = build_jid(user, server).SerializeToString()
        body = Message(conversation=job.text).SerializeToString()
        self._turns.begin_send()
        try:
            with self._entering():
                raw: bytes = gocode.SendMessage(self._name, to, len(to), body, len(body))
        except CommandError:
            return outcome.SESSION_OVER.of(job.command_id)
        finally:
            self._turns.end_send()
        answer = wire.SendMessageReturnFunction.FromString(raw)
        if answer.Error:
            return outcome.refusal_of(answer.Error).of(job.command_id)
        self._tell_lid_of(job.to)
        return SendSucceeded(
            command_id=job.command_id,
            id=WhatsAppMessageId(answer.SendResponse.ID),
            sent_at=translate.seconds(answer.SendResponse.Timestamp),
        )

    def _tell_lid_of(self, to: Jid) -> None:
        """WhatsApp answers from the LID: say whose it is, or receipts would find nobody."""
        lid = self._receipt_address(to)
        if lid != to and lid not in self._told_lids:
            self._told_lids.add(lid)
            self._out.spool(PersonSeen(person=Person(phone_jid=to, lid=lid)))

    def mark_read(self, chat: Jid, sender: Jid, ids: list[WhatsAppMessageId], at: float) -> None:
        """Send read receipts. Blocks.

        :raises CommandError: if it cannot be done.
        """
        self._need_connection()
        try:
            target = self._receipt_address(chat)
            with self._entering():
                self._client.mark_read(
                    *ids,
                    chat=_proto(target),
                    sender=_proto(sender),
                    receipt=ReceiptType.READ,
                    timestamp=int(at),
                )
        except NeonizeError as error:
            raise outcome.error_of_request(str(error)) from None

    def _receipt_address(self, chat: Jid) -> Jid:
        """The address under which WhatsApp keeps a chat now: the LID, if it is known."""
        if server_of(chat) != PHONE_SERVER:
            return chat
        try:
            with self._entering():
                return translate.jid(self._client.get_lid_from_pn(_proto(chat))) or chat
        except NeonizeError:
            return chat

    def group_subject(self, chat: Jid) -> str | None:
        """Blocks.

        :raises CommandError: if WhatsApp cannot be asked now.
        """
        if server_of(chat) != GROUP_SERVER:
            return None
        self._need_connection()
        try:
            with self._entering():
                info = self._client.get_group_info(_proto(chat))
        except NeonizeError as error:
            if outcome.refusal_of(str(error)) is outcome.GROUP_UNAVAILABLE:
                return None
            raise outcome.error_of_request(str(error)) from None
        return info.GroupName.Name or None

    def logout(self) -> None:
        """Unlink this device; the session ends. Blocks.

        :raises CommandError: if WhatsApp cannot be told now.
        """
        self._need_connection()
        try:
            with self._entering():
                self._client.logout()
        except NeonizeError as error:
            raise outcome.error_of_request(str(error)) from None
        self._end(SessionEnded(code="logged_out"))

    def _need_connection(self) -> None:
        if not self._online or self._ended:
            raise outcome.NOT_CONNECTED.error()

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
            self._ended = True
            self._online = False
        self._deadline = None
        self._shut_down()

    def _shut_down(self) -> None:
        with self._lock:
            if self._shutting:
                first = False
            else:
                first = self._shutting = True
        if not first:
            self._shut.wait()
            return
        try:
            if self._registered:
                with self._gate.entering():
                    gocode.Disconnect(self._name)
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
                gocode.Stop(self._name)
                self._registered = False
                self._leaks.files += 1
        finally:
            hold.release()
        if self._runner.is_alive():
            if self._own is not None or not self._qr_count:  # else it waits for a QR for ever
                self._runner.join(STOP_TIMEOUT_S)
            if self._runner.is_alive():
                self._leaks.threads += 1
        self._callbacks.session = None


class _Callbacks:
    """The C functions of one session, which live as long as the process.

    Goroutines of a stopped client go on for a while, and log: a function that was freed with its
    session would be called then (measured: SIGSEGV with twelve accounts). Only the functions stay,
    not the session.
    """

    _all: ClassVar[list[_Callbacks]] = []

    def __init__(self, session: WhatsApp) -> None:
        self.session: WhatsApp | None = session
        self.functions = (
            func_string(self._qr),
            func_string(self._login),
            func_callback_bytes(self._event),
            func_callback_bytes2(self._log),
        )
        self._all.append(self)

    def _qr(self, name: int, text: int) -> None:
        if (session := self.session) is not None:
            session.on_qr(name, text)

    def _login(self, name: int, status: int) -> None:
        if (session := self.session) is not None:
            session.on_login(name, status)
        else:
            threading.Event().wait()  # as in `on_login`

    def _event(self, name: bytes, data: int, size: int, code: int) -> None:
        if (session := self.session) is not None:
            session.on_event(name, data, size, code)

    def _log(self, data: int, size: int) -> None:
        if (session := self.session) is not None:
            session.on_log(data, size)


def _proto(address: Jid) -> Any:
    user, _, server = address.partition("@")
    return build_jid(user, server)
