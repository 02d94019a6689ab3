"""Which account it is that kills its engine, found out without asking: by keeping company apart.

When an engine dies, every account in it is a suspect. After the first death they come back
together, at once: a fault of the Go library hits anybody. If it happens again they come back in
small groups, and after that each alone. One that goes on killing an engine of its own is refused in
the end. Whoever lives through the window is no suspect any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from bridge.errors import AccountError
from bridge.ids import AccountId

WINDOW_S = 600.0
# The part of an engine's accounts that suspects of two deaths share one with.
GROUP_PART = 4
ALONE_AFTER = 3
REFUSED_AFTER = 5


class EngineKeepsDying(AccountError):
    """The account killed engine after engine, the last ones alone in them."""

    code = "engine_keeps_dying"

    def __init__(self) -> None:
        super().__init__(
            "The engine stopped again and again while this account alone was in it; it is paused "
            "so that nothing else suffers. Connect to try again, and report it."
        )


@dataclass(slots=True)
class _Record:
    """Deaths of engines that an account was in (monotonic seconds).

    Attributes:
        alone: those where nobody else was in it.
    """

    deaths: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)


class Quarantine:
    """Keeps the records of one host's accounts."""

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without suspects.

        Args:
            most: how many accounts an engine takes.
            clock: seconds.
        """
        self._most = most
        self._clock = clock
        self._records: dict[AccountId, _Record] = {}

    def note_death(self, accounts: Iterable[AccountId]) -> None:
        """An engine died with these accounts in it."""
        together = list(accounts)
        now = self._clock()
        for account in together:
            record = self._records.setdefault(account, _Record())
            # more are never asked for
            record.deaths = [*record.deaths[-ALONE_AFTER:], now]
            if len(together) == 1:
                record.alone = [*record.alone[1 - REFUSED_AFTER :], now]

    def deaths(self, account: AccountId) -> int:
        """How many of late; for what has no record any more, none."""
        return len(self._recent(account).deaths)

    def company(self, account: AccountId) -> int:
        """How many accounts may be in an engine that this one is in."""
        deaths = self.deaths(account)
        if deaths >= ALONE_AFTER:
            return 1
        return self._most if deaths < ALONE_AFTER - 1 else max(1, self._most // GROUP_PART)

    def admit(self, account: AccountId) -> None:
        """Before it is opened.

        :raises EngineKeepsDying: if it killed enough; the next time it gets one more chance,
            because nobody but a person asks for that.
        """
        record = self._recent(account)
        if len(record.deaths) > ALONE_AFTER and len(record.alone) >= REFUSED_AFTER:
            del record.alone[0]
            raise EngineKeepsDying

    def _recent(self, account: AccountId) -> _Record:
        record = self._records.get(account)
        if record is None:
            return _Record()
        since = self._clock() - WINDOW_S
        record.deaths = [at for at in record.deaths if at > since]
        record.alone = [at for at in record.alone if at > since]
        if not record.deaths:
            del self._records[account]
        return record
