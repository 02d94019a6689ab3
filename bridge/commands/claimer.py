"""Takes commands from the database, never more than can be worked on.

It looks when it starts, when something rings, when a command has finished, and on a jittered timer
that makes every ring optional.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import anyio
from loguru import logger

from bridge.bell import Bell
from bridge.errors import SupabaseUnavailable
from bridge.ids import CommandId
from bridge.supabase.answers import ClaimedCommand
from bridge.supabase.client import RequestRefused
from bridge.supabase.patience import Backoff, SupabaseRests

CLAIM_LIMIT = 50
MOST_RETRY_S = 3.0


class Claims(Protocol):
    """What is needed of the database."""

    async def claim_commands(self, limit: int) -> list[ClaimedCommand]:
        """Take up to so many commands."""

    async def running_commands(self, known: Sequence[CommandId]) -> list[ClaimedCommand]:
        """Taken commands, except the known ones."""


class Claimer:
    """Claims and starts commands.

    Args:
        execute: does one command to its end; raises nothing.
        bell: there may be something to claim.
        slots: how many commands are worked on at once.
        found: told how long ago each claimed command was inserted: something should have rung then.
    """

    def __init__(
        self,
        rpc: Claims,
        execute: Callable[[ClaimedCommand], Awaitable[None]],
        *,
        bell: Bell,
        slots: int,
        poll_interval_s: float,
        found: Callable[[float], None] = lambda _age_s: None,
    ) -> None:
        self._rpc = rpc
        self._execute = execute
        self._free = slots
        self._poll_interval_s = poll_interval_s
        self._found = found
        self._bell = bell
        self._stopped = False
        self._known: set[CommandId] = set()
        self._unsure = False

    def stop(self) -> None:
        """Claim no more; `run` returns when the commands that are being done are done."""
        self._stopped = True
        self._bell.ring()

    async def run(self) -> None:
        """Until `stop`. Supabase being away is waited out."""
        backoff = Backoff(self._poll_interval_s, MOST_RETRY_S, least_s=0.2)
        async with anyio.create_task_group() as commands:
            while not self._stopped:
                self._bell.hush()
                pause_s = self._poll_interval_s * random.uniform(0.75, 1.25)  # noqa: S311
                limit = min(self._free, CLAIM_LIMIT)
                try:
                    claimed = await self._claim(limit)
                except (SupabaseUnavailable, RequestRefused) as fault:
                    claimed = []
                    rests = isinstance(fault, SupabaseRests)  # it has waited already
                    pause_s = 0.0 if rests else backoff.next_delay_s()
                    if not rests and backoff.attempts in (1, 10):
                        logger.warning("Commands could not be claimed", reason=fault.sentence)
                else:
                    backoff.reset()
                for command in claimed:
                    self._found(command.age_s)
                    self._free -= 1
                    self._known.add(command.id)
                    commands.start_soon(self._one, command, name=f"command {command.id}")
                if limit and len(claimed) >= limit:
                    continue  # there may be more
                await self._bell.wait(pause_s)

    async def _claim(self, limit: int) -> list[ClaimedCommand]:
        if self._unsure:
            # The last claim may have been carried out though its answer got lost.
            lost = await self._rpc.running_commands(sorted(self._known))
            self._unsure = False
            if lost:
                logger.info("Commands of a claim that got lost were found", count=len(lost))
                return lost
        if not limit:
            return []
        self._unsure = True
        claimed = await self._rpc.claim_commands(limit)
        self._unsure = False
        return claimed

    async def _one(self, command: ClaimedCommand) -> None:
        try:
            await self._execute(command)
        finally:
            self._free += 1
            self._known.discard(command.id)
            # the next command of the same conversation was waiting for this one
            self._bell.ring()
