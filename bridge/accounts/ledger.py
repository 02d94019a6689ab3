"""Sends without an outcome: what was handed to the engine, and what the spool says about it.

One for each account and lease. A send is *handed over* by a command, *started* when the spool says
so, and *settled* when its outcome is in the database. What is started and has no outcome after a
crash may have been sent: it ends `unknown`. What was handed over and never started was not sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio

from bridge.events import Delivery, SendFailed, SendNamed, SendStarted, SendSucceeded
from bridge.ids import CommandId, SpoolPosition, WhatsAppMessageId
from bridge.supabase.answers import Attempt

# The engine delivers at most so many events ahead of the last confirmed one (its window is 512).
# A send that is this far behind would stop all deliveries, and with them its own outcome.
HELD_UP_AFTER = 256


@dataclass(slots=True)
class HandedOver:
    """A send that the engine has.

    Attributes:
        settled: set when the outcome is recorded, or when it is known that none will come.
    """

    attempt: Attempt
    settled: anyio.Event = field(default_factory=anyio.Event)


class SendLedger:
    """Implements `bridge.ingest.Outcomes`."""

    def __init__(self) -> None:
        self._handed_over: dict[CommandId, HandedOver] = {}
        self._started: dict[CommandId, SpoolPosition] = {}
        self._names: dict[CommandId, WhatsAppMessageId] = {}

    def hand_over(self, command: CommandId, attempt: Attempt) -> HandedOver:
        """The engine is about to get this send."""
        entry = HandedOver(attempt)
        self._handed_over[command] = entry
        return entry

    def take_back(self, command: CommandId) -> None:
        """The engine did not take it: whoever handed it over finishes the command."""
        self._started.pop(command, None)
        self._names.pop(command, None)
        entry = self._handed_over.pop(command, None)
        if entry is not None:
            entry.settled.set()

    def note(self, delivery: Delivery) -> None:
        """A delivery was read, in order."""
        if isinstance(delivery.event, SendStarted):
            self._started[delivery.event.command_id] = delivery.position
            self._names.pop(delivery.event.command_id, None)  # of an earlier attempt
        elif isinstance(delivery.event, SendNamed):
            self._names[delivery.event.command_id] = delivery.event.id

    def name_of(self, command: CommandId) -> WhatsAppMessageId | None:
        """Under which id its message left, if it did."""
        return self._names.get(command)

    def attempt_of(self, command: CommandId) -> Attempt | None:
        """The attempt that was handed over here; None if it was an earlier process's."""
        entry = self._handed_over.get(command)
        return entry.attempt if entry is not None else None

    def recorded(self, deliveries: Sequence[Delivery]) -> None:
        """These are in the database: outcomes among them settle their sends."""
        for delivery in deliveries:
            if isinstance(delivery.event, SendSucceeded | SendFailed):
                self.take_back(delivery.event.command_id)

    def floor(self) -> SpoolPosition | None:
        """The position before the oldest started send; the spool keeps what comes after it."""
        return SpoolPosition(min(self._started.values()) - 1) if self._started else None

    def abandoned(self, position: SpoolPosition) -> dict[CommandId, WhatsAppMessageId | None]:
        """Started sends that are so far behind that they hold the spool up, with their names.

        They are not asked for again.
        """
        late = {
            command: self.name_of(command)
            for command, started in self._started.items()
            if position - started >= HELD_UP_AFTER
        }
        for command in late:
            self.take_back(command)
        return late

    def started(self) -> list[CommandId]:
        """Sends that started and have no outcome."""
        return list(self._started)

    def unstarted(self) -> list[CommandId]:
        """Sends that were handed over and have not started."""
        return [command for command in self._handed_over if command not in self._started]

    def let_go(self) -> None:
        """The lease is gone: who waits here must not wait for ever; the next holder settles."""
        for command in {*self._started, *self._handed_over}:
            self.take_back(command)
