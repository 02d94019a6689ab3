"""What a session in an engine process is given: how to connect, and where its news go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bridge.events import Signal, SpooledEvent


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
    """

    database: str
    pair: str
    phone: str
    device_name: str
    connect_timeout_s: float
    pairing_timeout_s: float


@dataclass(frozen=True, slots=True)
class Outlets:
    """Where a session's news go.

    Attributes:
        spool: returns when the event is in the journal; may block; gives False when it is closed.
        signal: never blocks for long.
        complain: code and constant sentence for the log.
    """

    spool: Callable[[SpooledEvent], bool]
    signal: Callable[[Signal], None]
    complain: Callable[[str, str], None]
