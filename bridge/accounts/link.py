"""What is known of a session's link to WhatsApp now."""

from __future__ import annotations

import time

import anyio


class Link:
    """Of one session.

    Attributes:
        linked: the credentials in the database are worth something.
        connected: logged in at WhatsApp, as far as is known now.
        recovering: sends wait, because the state is a little older than what WhatsApp knows.
        phone_jid: own address, when connected.
        connected_for_s: how long the last connection held; told when it is over.
        came_up: set by the first connection.
    """

    def __init__(self, *, linked: bool) -> None:
        self.linked = linked
        self.connected = False
        self.recovering = False
        self.phone_jid: str | None = None
        self.connected_for_s = 0.0
        self.came_up = anyio.Event()
        self._connected_at: float | None = None

    def up(self) -> None:
        """Logged in."""
        self.connected = True
        self._connected_at = time.monotonic()
        self.came_up.set()

    def down(self) -> None:
        """Not any more; may be told twice."""
        self.connected = False
        if self._connected_at is not None:
            self.connected_for_s = time.monotonic() - self._connected_at
            self._connected_at = None
