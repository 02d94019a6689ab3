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


async def until_available(
    call: Callable[[], Awaitable[T]], *, what: str, first_s: float = 0.25, most_s: float = 15.0
) -> T:
    """Repeat an idempotent call until Supabase answers, for as long as it takes.

    Args:
        call: makes one attempt.
        what: what is being done, for the log.
        first_s: bound of the first delay.
        most_s: bound of later delays.

    Raises:
        BridgeError: any other than `SupabaseUnavailable`, from the call.
    """
    backoff = Backoff(first_s, most_s, least_s=0.05)
    while True:
        try:
            answer = await call()
        except SupabaseUnavailable as fault:
            if backoff.attempts in (0, 5) or backoff.attempts % 20 == 0:
                logger.warning(
                    "Supabase is away; trying again",
                    doing=what,
                    attempt=backoff.attempts + 1,
                    reason=fault.sentence,
                )
            await anyio.sleep(backoff.next_delay_s())
        else:
            if backoff.attempts:
                logger.info("Supabase is back", doing=what, attempts=backoff.attempts + 1)
            return answer
