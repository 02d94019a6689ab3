"""How much goes into one call, so that it does not hold others up for long.

Whoever inserts a `send` in a workspace waits while a batch is recorded for it. The database says
how long it held others up; a batch is as large as it manages in about `HOLDS_S`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

HOLDS_S = 0.06


@dataclass(slots=True)
class BatchSize:
    """How many there may be in the next call.

    Attributes:
        least: and no fewer.
        most: and no more.
    """

    least: int
    most: int
    now: int = field(init=False)

    def __post_init__(self) -> None:
        self.now = self.least

    def took(self, count: int, held_s: float) -> None:
        """A call with so many held others up for so long."""
        if count > 0 and held_s > 0:
            # doubles at most: what was in a small call may have been easy
            most = min(2 * self.now, self.most)
            self.now = max(self.least, int(min(count * HOLDS_S / held_s, most)))
