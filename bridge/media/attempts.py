"""One attempt at a file that WhatsApp has: whom to ask, and what follows from a failure.

Files of messages and pictures of people are both rows that the database gives out, one attempt at a
time: what may work later goes back with a time, what cannot is ended, and no crash costs more than
one of them.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from loguru import logger

from bridge.errors import BridgeError, CommandError, LeaseLost, SupabaseUnavailable
from bridge.ids import AccountId, LeaseEpoch
from bridge.orders import Request
from bridge.supabase.patience import until_available

T = TypeVar("T")
FIND_ACCOUNT_S = 5.0
MOST_LEFT = 1000
WAITING_CODES = frozenset({"not_connected", "account_gone", "session_over", "storage_unavailable"})


class Asked(Protocol):
    """Who fetches."""

    async def ask(self, order: Request) -> Any:
        """Have something done at WhatsApp."""


class Accounts(Protocol):
    """Who runs here."""

    async def find(
        self, account_id: AccountId, epoch: LeaseEpoch, *, within_s: float
    ) -> Asked | None:
        """The account under that lease."""


async def account_here(accounts: Accounts, account: AccountId, epoch: LeaseEpoch) -> Asked:
    """Who can be asked, under the lease that the row was given out under.

    Raises:
        CommandError: this host has the account no more, or not yet.
    """
    found = await accounts.find(account, epoch, within_s=FIND_ACCOUNT_S)
    if found is None:
        raise CommandError(
            "This host does not run the account.", code="account_gone", retryable=True
        )
    return found


@dataclass(frozen=True, slots=True)
class Again:
    """When the next attempt is due, and whether the last one `counts`."""

    in_s: float
    counts: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How patient to be.

    Attributes:
        most_attempts: that count.
        waiting_s: pause while something is away that is waited for; such attempts do not count.
        first_s: bound of the first pause after a failure.
        growth: each bound is so many times the one before.
        most_s: bound of all later ones.
    """

    most_attempts: int
    waiting_s: float
    first_s: float
    growth: float
    most_s: float

    def after(self, fault: BridgeError, attempts: int) -> Again | None:
        """What follows from a fault of the given attempt (1 = the first); None = give up."""
        if fault.code in WAITING_CODES or isinstance(fault, SupabaseUnavailable):
            return Again(self.waiting_s, counts=False)
        # A key that is missing may be put back; anything else of the account passes, too.
        passes = not isinstance(fault, CommandError) or fault.retryable
        if not passes or attempts >= self.most_attempts:
            return None
        # never the same for all
        bound = min(self.most_s, self.first_s * self.growth ** max(0, attempts - 1))
        return Again(random.uniform(bound / 2, bound), counts=True)  # noqa: S311 - no secret


async def given_out(claim: Callable[[], Awaitable[list[T]]], *, what: str) -> list[T]:
    """What the database gives out; nothing if it refuses, which is told and ends nothing."""
    try:
        return await until_available(claim, what=what)
    except BridgeError as fault:
        logger.error("The database gives out no files", code=fault.code, reason=fault.sentence)
        return []


async def attempted(
    fetch: Callable[[], Awaitable[T]], put_back: Callable[[BridgeError], Awaitable[None]]
) -> T | None:
    """What was fetched; None if it was put back. The barrier of one file.

    Raises:
        LeaseLost: somebody else has the account, and the row with it.
        BridgeError: it could not be put back.
    """
    try:
        return await fetch()
    except LeaseLost:
        raise
    except BridgeError as fault:
        await put_back(fault)
    except Exception as error:  # noqa: BLE001 - the barrier of one file
        logger.opt(exception=error).error("Fetching a file crashed; the others go on")
        await put_back(CommandError("The bridge met an internal fault.", retryable=True))
    return None


class InHand:
    """The rows that this host knows it has.

    A row that was given out here and is not among them is given out again, because the answer that
    named it was lost. What could not even be put back is among them, although nobody fetches it: at
    once it would end the same way. Of those the last `MOST_LEFT` are remembered.
    """

    def __init__(self) -> None:
        self._fetched_now: set[str] = set()
        self._left: deque[str] = deque(maxlen=MOST_LEFT)

    def __len__(self) -> int:
        """How many are being fetched."""
        return len(self._fetched_now)

    def known(self) -> list[str]:
        """All that shall not be given out again."""
        return sorted({*self._fetched_now, *self._left})

    def add(self, row: str) -> None:
        """It was given out here, and `fetching` comes soon."""
        self._fetched_now.add(row)

    @contextmanager
    def fetching(self, row: str) -> Iterator[None]:
        """It is here until the block ends."""
        self.add(row)
        try:
            yield
        finally:
            self._fetched_now.discard(row)

    @contextmanager
    def on_its_own(self, row: str) -> Iterator[None]:
        """As `fetching`; what cannot even be put back is left, and told; the others go on."""
        try:
            with self.fetching(row):
                yield
        except LeaseLost:
            logger.info("A file was left: the account is not ours any more")
        except BridgeError as fault:
            self._left.append(row)
            logger.error("A file could not be finished", code=fault.code)
