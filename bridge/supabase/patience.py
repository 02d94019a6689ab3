"""How long to wait before the next attempt: exponential, capped, with full jitter.

Full jitter, because the hosts that lose Supabase together would otherwise return together.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
from loguru import logger

from bridge.errors import SupabaseUnavailable

T = TypeVar("T")
FIRST_S, MOST_S = 0.25, 3.0


class Backoff:
    """Delays that double up to a cap; each is drawn between nothing and its bound.

    Args:
        first_s: bound of the first delay.
        most_s: bound of all later ones.
        least_s: no delay is shorter.
    """

    def __init__(self, first_s: float, most_s: float, *, least_s: float = 0.0) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._least_s = least_s
        self.attempts = 0

    def next_delay_s(self) -> float:
        """The delay before the next attempt; counts the attempt."""
        bound = min(self._most_s, self._first_s * 2.0 ** min(self.attempts, 30))
        self.attempts += 1
        return max(self._least_s, random.uniform(0, bound))  # noqa: S311 - no secret

    def reset(self) -> None:
        """The last attempt succeeded."""
        self.attempts = 0


class SupabaseRests(SupabaseUnavailable):
    """Supabase is away, and this request did not even leave: the caller has waited already."""


async def until_available(call: Callable[[], Awaitable[T]], *, what: str) -> T:
    """Repeat an idempotent call until Supabase answers, for as long as it takes.

    How often anybody asks while Supabase is away is up to the circuit breaker of the host; the
    pauses here are for faults that meet one call only.

    Args:
        call: makes one attempt.
        what: what is being done, for the log.

    Raises:
        BridgeError: any other than `SupabaseUnavailable`, from the call.
    """
    backoff = Backoff(FIRST_S, MOST_S, least_s=0.05)
    while True:
        try:
            return await call()
        except SupabaseRests:
            continue
        except SupabaseUnavailable as fault:
            if backoff.attempts == 5 or backoff.attempts % 20 == 19:
                logger.warning(
                    "A request is tried again and again",
                    doing=what,
                    attempt=backoff.attempts + 1,
                    reason=fault.sentence,
                )
            await anyio.sleep(backoff.next_delay_s())
