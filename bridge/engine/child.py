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
from pathlib import Path

from bridge.engine import frames
from bridge.engine.child_session import Session
from bridge.engine.gate import Gate
from bridge.engine.plan import Leaks
from bridge.engine.wire import Wire
from bridge.ids import SpoolPosition

TICK_S = 0.25
LAST_WORDS_S = 6.0


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
            case frames.Done():
                found.done(frame)
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
        | frames.Do
        | frames.Done,
    ) -> None:
        match frame:
            case frames.Close():
                self._wire.send(frames.Closed(session=frame.session))
            case frames.Disconnect():
                self._wire.send(frames.Quiet(session=frame.session, last=SpoolPosition(0)))
            case frames.Confirm() | frames.ConfirmHistory() | frames.Lease() | frames.Done():
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
