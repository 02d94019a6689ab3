"""Faults that tests switch on: what a hosted project does on a bad day.

All methods may be called from any thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Realtime(StrEnum):
    """How Realtime behaves."""

    ON = "on"
    OFF = "off"
    DEAF = "deaf"
    MUTE = "mute"
    LATE = "late"
    REPEATING = "repeating"


# What LATE holds every change back for, and when REPEATING tells it a third time.
LATE_S = 3.0


class GatewayFault(StrEnum):
    """What happens to a request instead of its answer."""

    STATUS = "status"
    HANG = "hang"
    CUT = "cut"


@dataclass(slots=True)
class Faults:
    """The switches of one stack.

    Attributes:
        realtime: `OFF` refuses new sockets with 503, `DEAF` accepts and delivers nothing, `MUTE`
            takes sockets and answers nothing at all, `LATE` delivers after `LATE_S`, `REPEATING`
            delivers twice, and once more after `LATE_S`.
        requests_spoiled: how many requests a fault has met.
    """

    realtime: Realtime = Realtime.ON
    requests_spoiled: int = 0
    _cut_realtime: Callable[[], None] | None = None
    _stop_database: Callable[[], None] | None = None
    _start_database: Callable[[], None] | None = None
    _kind: GatewayFault | None = None
    _status: int = 503
    _until: float = 0.0
    _prefix: str = "/"

    def cut_realtime(self) -> None:
        """Close all Realtime sockets, as a deployment on the other side does."""
        if self._cut_realtime is not None:
            self._cut_realtime()

    def realtime_off(self) -> None:
        """Refuse new sockets, and close those there are."""
        self.realtime = Realtime.OFF
        self.cut_realtime()

    def realtime_deaf(self) -> None:
        """Accept and answer everything, and deliver nothing."""
        self.realtime = Realtime.DEAF

    def realtime_mute(self) -> None:
        """Take sockets and messages, and answer nothing, as something that hangs does."""
        self.realtime = Realtime.MUTE

    def realtime_late(self) -> None:
        """Deliver every change seconds late."""
        self.realtime = Realtime.LATE

    def realtime_repeating(self) -> None:
        """Deliver every change several times, the last time seconds late."""
        self.realtime = Realtime.REPEATING

    def realtime_on(self) -> None:
        """Behave again."""
        self.realtime = Realtime.ON

    def answer(self, status: int, *, for_s: float, prefix: str = "/rest/v1") -> None:
        """Answer requests below `prefix` with this status (503, 429, 500, …)."""
        self._begin(GatewayFault.STATUS, for_s, prefix)
        self._status = status

    def hang(self, *, for_s: float, prefix: str = "/rest/v1") -> None:
        """Take requests and do not answer until the time is over; then with 504."""
        self._begin(GatewayFault.HANG, for_s, prefix)

    def cut(self, *, for_s: float, prefix: str = "/rest/v1") -> None:
        """Do what was asked, then break the connection in the middle of the answer."""
        self._begin(GatewayFault.CUT, for_s, prefix)

    def stop_database(self) -> None:
        """Shut PostgreSQL down; everything that asks it fails. Not from the stack's own thread."""
        if self._stop_database is not None:
            self._stop_database()

    def start_database(self) -> None:
        """Start it again, with all its data."""
        if self._start_database is not None:
            self._start_database()

    def heal(self) -> None:
        """End all faults."""
        self._kind = None
        self.realtime = Realtime.ON

    def for_request(self, path: str) -> GatewayFault | None:
        """The fault that meets a request now, if any."""
        if self._kind is None or time.monotonic() > self._until:
            return None
        if not path.startswith(self._prefix):
            return None
        self.requests_spoiled += 1
        return self._kind

    @property
    def status(self) -> int:
        """The status of `answer`."""
        return self._status

    @property
    def remaining_s(self) -> float:
        """Seconds until the gateway behaves again."""
        return max(0.0, self._until - time.monotonic()) if self._kind is not None else 0.0

    def on_cut_realtime(self, action: Callable[[], None]) -> None:
        """The stack says how sockets are cut."""
        self._cut_realtime = action

    def on_database(self, *, stop: Callable[[], None], start: Callable[[], None]) -> None:
        """The stack says how PostgreSQL is stopped and started; both block until it is done."""
        self._stop_database, self._start_database = stop, start

    def _begin(self, kind: GatewayFault, for_s: float, prefix: str) -> None:
        self._prefix = prefix
        self._until = time.monotonic() + for_s
        self._kind = kind
