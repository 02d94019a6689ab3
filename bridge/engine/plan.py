"""What a session in an engine process is given: how to connect, and where its news go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bridge.engine.history import Announced
from bridge.events import Person, Signal, SpooledEvent


@dataclass(slots=True)
class Leaks:
    """What stopped sessions left behind in this process; grows only."""

    threads: int = 0
    files: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a session connects.

    Attributes:
        database: path of the SQLite file.
        pair: `qr`, `code`, or empty for a device that is linked already.
        phone: for `code`: international number, digits only.
        device_name: shown on the phone. neonize merges it into a process-wide variable, so it has
            to be the same for all accounts.
        proxy: URL of a proxy; empty = as the environment says.
    """

    database: str
    pair: str
    phone: str
    device_name: str
    connect_timeout_s: float
    pairing_timeout_s: float
    proxy: str = ""


class HistoryKeeper(Protocol):
    """Where a session's histories go."""

    def keep(self, event: memoryview, own: Person) -> None:
        """Return when all of it is on disk."""

    def announce(self, announced: Announced) -> None:
        """One is to come."""

    def fetch(self, get: Callable[[Announced], bytes | None], own: Person) -> None:
        """Begin to get those that did not come; `get` gives None for what is gone."""


@dataclass(frozen=True, slots=True)
class Outlets:
    """Where a session's news go.

    Attributes:
        spool: returns when the event is in the journal; may block; gives False when it is closed.
        signal: never blocks for long.
        complain: code and constant sentence for the log.
        histories: None = they are not wanted.
        before_dial: called before every connection is made; ends the process if it must not be.
    """

    spool: Callable[[SpooledEvent], bool]
    signal: Callable[[Signal], None]
    complain: Callable[[str, str], None]
    histories: HistoryKeeper | None = None
    before_dial: Callable[[], None] = lambda: None
