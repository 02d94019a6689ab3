"""Main loop of an engine process: ``python -m bridge.engine.child FD``.

FD is one end of a socket pair; `bridge.engine.frames` says what goes over it. The other end is the
parent. When it closes, the parent is gone: every session is flushed to its spool and the process
ends, always by `os._exit`, because a failed pairing leaves threads that can never be joined.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from bridge.engine import frames
from bridge.engine.gate import Gate
from bridge.engine.histories import Histories
from bridge.engine.plan import Leaks, Outlets, Plan
from bridge.engine.spool import MAX_RECORD_BYTES, Spool, SpoolClosed
from bridge.errors import BridgeError, CommandError
from bridge.events import (
    EventNotUnderstood,
    PersonSeen,
    SendFailed,
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

TICK_S = 0.25
BATCH = 64
DISK_RETRY_S = 0.5
LAST_WORDS_S = 6.0

_event_encoder = msgspec.msgpack.Encoder()

# What a send ends with never waits for room in the journal: its start holds up what is confirmed.
_OF_SENDS = (SendSucceeded, SendFailed, PersonSeen)


class LibraryUnusable(Exception):
    """The installed neonize has no library of its own version, and would download one."""


def load_library() -> None:
    """Load neonize and its Go library, which takes half a second.

    A Go library sees the environment that the process was started with, and no later change of it.

    :raises LibraryUnusable: if neonize would download another one: code comes from wheels only.
    """
    package = importlib.util.find_spec("neonize")
    folders = list(package.submodule_search_locations or []) if package else []
    wanted = importlib.metadata.version("neonize") if folders else ""
    libraries = [path for folder in folders for path in Path(folder).glob("neonize-*.*")]
    if len(libraries) != 1:
        raise LibraryUnusable
    library = ctypes.CDLL(str(libraries[0]))
    library.GetVersion.restype = ctypes.c_char_p
    if library.GetVersion().decode() != wanted:
        raise LibraryUnusable
    import bridge.engine.connection  # noqa: F401, PLC0415 - loads the library


class Wire:
    """The socket to the parent. `send` may be called from any thread."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._lock = threading.Lock()

    def send(self, frame: frames.ToParent) -> None:
        """Blocks while the parent is busy. A parent that is gone is noticed by the main loop."""
        data = frames.encode(frame)
        with self._lock:
            try:
                self._socket.sendall(data)
            except OSError:
                return

    def complain(self, code: str, sentence: str) -> None:
        """One line for the parent's log."""
        self.send(frames.Complaint(code=code, sentence=sentence))


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
        )
        outlets = Outlets(self._append, self._signal, self._wire.complain, self._histories)
        self._whatsapp = Connection(plan, outlets, self._gate, self._leaks)
        self._whatsapp.start()

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

    def confirm_history(self, position: SpoolPosition) -> None:
        """The database has all parts of histories up to here."""
        self._histories.confirm(position)

    def extend_lease(self, ttl_s: float) -> None:
        """Counts from now."""
        self._lease_until = time.monotonic() + ttl_s

    def tick(self, now: float) -> None:
        """Deadlines."""
        if self._whatsapp is None:
            return
        if self._lease_until is not None and now >= self._lease_until:
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


class Engine:
    """All sessions of this process."""

    def __init__(self, sock: socket.socket, leaks: Leaks) -> None:
        self._socket = sock
        self._wire = Wire(sock)
        self._gate = Gate()
        self._leaks = leaks
        self._sessions: dict[int, Session] = {}

    def run(self) -> None:
        """Until the parent is gone."""
        self._wire.send(frames.Hello(version=frames.PROTOCOL_VERSION, pid=os.getpid()))
        splitter = frames.Splitter()
        next_tick = time.monotonic() + TICK_S
        while True:
            wait_s = max(0.0, next_tick - time.monotonic())
            if select.select([self._socket], [], [], wait_s)[0]:
                data = self._socket.recv(1 << 16)
                if not data:
                    return
                for body in splitter.feed(data):
                    self._obey(frames.decode_to_engine(body))
            now = time.monotonic()
            if now >= next_tick:
                next_tick = now + TICK_S
                for session in list(self._sessions.values()):
                    session.tick(now)

    def _obey(self, frame: frames.ToEngine) -> None:
        if isinstance(frame, frames.Ping):
            spent = 10 * self._leaks.threads + self._leaks.files
            self._wire.send(frames.Pong(number=frame.number, spent=spent))
            return
        if isinstance(frame, frames.Open):
            session = Session(frame, self._wire, self._gate, self._leaks)
            self._sessions[frame.session] = session
            _in_background(lambda: self._open(frame.session, session))
            return
        found = self._sessions.get(frame.session)
        if found is None:
            self._refuse(frame)
            return
        match frame:
            case frames.Confirm():
                found.confirm(frame.position)
            case frames.ConfirmHistory():
                found.confirm_history(frame.position)
            case frames.Lease():
                found.extend_lease(frame.ttl_s)
            case frames.Disconnect():
                _in_background(found.disconnect_and_say_so)
            case frames.Close():
                del self._sessions[frame.session]
                _in_background(found.close)
            case _:
                found.request(frame)

    def _open(self, number: int, session: Session) -> None:
        if not session.open():
            self._sessions.pop(number, None)
        elif number not in self._sessions:  # closed while it was opening
            session.close()

    def _refuse(
        self,
        frame: frames.Confirm
        | frames.ConfirmHistory
        | frames.Lease
        | frames.Disconnect
        | frames.Close
        | frames.Send
        | frames.Do,
    ) -> None:
        match frame:
            case frames.Close():
                self._wire.send(frames.Closed(session=frame.session))
            case frames.Disconnect():
                self._wire.send(frames.Quiet(session=frame.session, last=SpoolPosition(0)))
            case frames.Confirm() | frames.ConfirmHistory() | frames.Lease():
                return
            case _:
                self._wire.send(
                    frames.Answer(
                        session=frame.session,
                        request=frame.request,
                        code="session_over",
                        sentence="The session is closed.",
                        retryable=True,
                    )
                )

    def flush(self, timeout_s: float) -> None:
        """Close all sessions at once, in bounded time."""
        deadline = time.monotonic() + timeout_s
        threads = [_in_background(session.close) for session in list(self._sessions.values())]
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def _in_background(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def main(arguments: list[str] | None = None) -> None:
    """Never returns."""
    # Ctrl-C goes to the whole terminal; the parent decides when we stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    descriptor = int((sys.argv[1:] if arguments is None else arguments)[-1])
    sock = socket.socket(fileno=descriptor)
    os.set_inheritable(descriptor, False)
    try:
        load_library()
    except (LibraryUnusable, OSError):
        Wire(sock).complain(
            "library_unusable", "neonize's library is missing or of another version; reinstall it."
        )
        os._exit(4)
    engine = Engine(sock, Leaks())
    code = 0
    try:
        engine.run()
    except OSError:
        code = 1
    except frames.FrameError:
        code = 3
    finally:
        # whatever hangs, the process ends
        threading.Timer(2 * LAST_WORDS_S, os._exit, (code,)).start()
        engine.flush(LAST_WORDS_S)
        os._exit(code)


if __name__ == "__main__":
    main()
