"""Which fault comes when, from a seed: the same seed gives the same run."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.world import World


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        inject: does it, undoes it if it lasts, and returns how the service recovered; raises
            `AssertionError` if something is seen meanwhile that must not be.
        may_lose: how many messages one injection may cost in standard durability (docs/faults.md
            says why); 0 in strict.
        may_refuse: commands may fail, because they are told that the account rests.
        may_misplace: a host that woke up hands in late what it had not recorded, behind what its
            successor has recorded since.
        settled: strict durability knows of every send whether it left, so none may end `unknown`
            there. A connection that WhatsApp drops, and a parent that dies, may leave some.
        short: part of `make test`.
    """

    name: str
    inject: Callable[[World, random.Random], Awaitable[str]]
    may_lose: int = 0
    may_refuse: bool = False
    may_misplace: bool = False
    settled: bool = False
    short: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One injection."""

    number: int
    fault: Fault
    seed: int

    def chance(self) -> random.Random:
        """All dice of this step."""
        return random.Random(self.seed)


def schedule(faults: Sequence[Fault], *, seed: int, rounds: int) -> list[Step]:
    """Every fault once a round, each round in an order of its own."""
    dice = random.Random(seed)
    steps: list[Step] = []
    for _ in range(rounds):
        order = list(faults)
        dice.shuffle(order)
        steps += [
            Step(len(steps) + index, fault, dice.getrandbits(32))
            for index, fault in enumerate(order)
        ]
    return steps
