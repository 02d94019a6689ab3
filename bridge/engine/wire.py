"""An engine process's way to its parent: whole frames, from any thread."""

from __future__ import annotations

import socket
import threading

from bridge.engine import frames


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
