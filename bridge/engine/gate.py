"""Keeps Python's threads from touching neonize's global Go maps at the same time.

neonize keeps three maps (clients, channels, cancel functions) without a lock. Go ends the whole
process when a write meets a read or another write: 40 concurrent starts killed 7 of 25 processes.
Where the maps are touched (goneonize/main.go):

* `Neonize` writes all three before it connects; later, just before its first event, it reads two.
* `Stop` writes all three.
* every API function reads one when it is entered, never again.

So the gate knows *exclusive* holds (starts, until they show that the writing is over, and stops)
and *shared* ones (API calls while they are entered; the two late reads of a start). A start turns
its exclusive hold into a shared one, so a slow dial delays starts and stops, but no API call.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

# An API call reads the map in its first microseconds but may last 75 s, waiting for WhatsApp.
# A process that does not get to them within this time has stopped altogether.
ENTRY_S = 1.0


class Hold:
    """A place in the gate. `release` and `share` may be called from any thread, and repeatedly."""

    def __init__(self, gate: Gate, *, exclusive: bool, expires_at: float | None) -> None:
        self._gate = gate
        self.exclusive = exclusive
        self.expires_at = expires_at

    def share(self) -> None:
        """From now on others may share; does nothing if it is released or shared already."""
        self._gate.change(self, exclusive=False)

    def release(self) -> None:
        """Leave."""
        self._gate.change(self, exclusive=None)


class Gate:
    """One a process. Waiting exclusive holds go before new shared ones."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._holds: set[Hold] = set()
        self._waiting = 0

    def exclusive(self) -> Hold:
        """Wait until nobody is in, and be alone."""
        with self._changed:
            self._waiting += 1
            try:
                while (wait_s := self._occupied_s()) is not None:
                    self._changed.wait(wait_s)
            finally:
                self._waiting -= 1
            return self._enter(Hold(self, exclusive=True, expires_at=None))

    def shared(self, *, expires: bool = False) -> Hold:
        """Wait until nobody is alone, and be in with others.

        Args:
            expires: the hold counts for `ENTRY_S` only.
        """
        with self._changed:
            while self._waiting or any(hold.exclusive for hold in self._holds):
                self._changed.wait()
            expires_at = time.monotonic() + ENTRY_S if expires else None
            return self._enter(Hold(self, exclusive=False, expires_at=expires_at))

    @contextmanager
    def entering(self) -> Iterator[None]:
        """Around an API call."""
        hold = self.shared(expires=True)
        try:
            yield
        finally:
            hold.release()

    def change(self, hold: Hold, *, exclusive: bool | None) -> None:
        """Weaken a hold (False) or end it (None); see `Hold`."""
        with self._changed:
            if hold not in self._holds:
                return
            if exclusive is None:
                self._holds.remove(hold)
            else:
                hold.exclusive = exclusive
            self._changed.notify_all()

    def _enter(self, hold: Hold) -> Hold:
        self._holds.add(hold)
        self._changed.notify_all()
        return hold

    def _occupied_s(self) -> float | None:
        """How long it may take until all holds are gone; None if there is none."""
        now = time.monotonic()
        self._holds = {h for h in self._holds if h.expires_at is None or h.expires_at > now}
        if not self._holds:
            return None
        ends = [hold.expires_at for hold in self._holds if hold.expires_at is not None]
        return min(ends) - now if len(ends) == len(self._holds) else 60.0
