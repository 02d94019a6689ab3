"""A wake-up between parts that do not know each other: a hint, never the data.

Whoever has news rings; whoever can use them waits, but never for ever, so a ring that is lost costs
time and nothing else. A bell is made before the parts on both of its sides.
"""

from __future__ import annotations

import math

import anyio


class Bell:
    """Rings that come before somebody waits count as one."""

    def __init__(self) -> None:
        self._rung = anyio.Event()

    def ring(self) -> None:
        """There may be something to do."""
        self._rung.set()

    def hush(self) -> None:
        """What was rung for is looked at from now on."""
        self._rung = anyio.Event()

    async def wait(self, at_most_s: float = math.inf) -> None:
        """Until it rings, or rang since it was hushed."""
        with anyio.move_on_after(at_most_s):
            await self._rung.wait()
        self.hush()
