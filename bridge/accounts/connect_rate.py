"""So many connections to WhatsApp a second, over all accounts of a host.

A host that starts with two hundred accounts would otherwise open two hundred connections at once,
from one address. The first few go at once, the others in the order in which they came.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio

# What may go at once, in seconds' worth of the rate; never less than a few.
BURST_S = 2.0
LEAST_AT_ONCE = 5


class ConnectRate:
    """A token bucket that keeps the time at which it would be full again."""

    def __init__(self, per_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin full.

        Args:
            per_s: lasting rate.
            clock: seconds.
        """
        self.at_once = max(LEAST_AT_ONCE, int(per_s * BURST_S))
        self._each_s = 1.0 / per_s
        self._clock = clock
        self._full_at = clock()

    def take(self) -> float:
        """Take the next turn; returns in how many seconds it is."""
        now = self._clock()
        begun = max(self._full_at, now)
        self._full_at = begun + self._each_s
        return max(0.0, begun - now - (self.at_once - 1) * self._each_s)

    async def turn(self, *, urgent: bool) -> None:
        """Wait for a turn; with `urgent`, a person looks at the screen and does not wait."""
        wait_s = self.take()
        if not urgent:
            await anyio.sleep(wait_s)
