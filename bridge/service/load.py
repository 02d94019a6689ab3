"""What this host carries and what waits on its disk, for the heartbeat; and trouble with the disk.

Trouble is told once: in the log when it begins, and as a row in `whatsapp_baileys_events` as soon
as Supabase can be reached.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import anyio.to_thread
from loguru import logger

from bridge.engine.backlog import Backlog, Waiting
from bridge.engine.spool import MIN_FREE_BYTES, free_bytes
from bridge.ids import AccountId

# Longer than any restart of a database, shorter than anybody's patience.
LATE_S = 300.0


class Reports(Protocol):
    """What is needed of the database."""

    async def report(
        self,
        account: AccountId | None,
        level: str,
        code: str,
        message: str,
        context: dict[str, Any] | None = None,
    ) -> None:
        """Leave a line for the operator."""


@dataclass(slots=True)
class _Trouble:
    """Something that is told once, until it is over.

    Attributes:
        is_on: as of the last look; the log knows of it.
        is_told: the database knows of it, too.
    """

    code: str
    sentence: str
    is_on: bool = False
    is_told: bool = False

    async def now(self, is_on: bool, reports: Reports, context: dict[str, Any]) -> None:
        """Tell what is new.

        Raises:
            SupabaseUnavailable: the row could not be written; the next look tries again.
        """
        if is_on and not self.is_on:
            logger.error(self.sentence, code=self.code, **context)
        elif self.is_on and not is_on:
            logger.info("This is over", code=self.code, **context)
        self.is_on = is_on
        self.is_told = self.is_told and is_on
        if is_on and not self.is_told:
            await reports.report(None, "error", self.code, self.sentence, context)
            self.is_told = True


class HostLoad:
    """Awaited for every heartbeat."""

    def __init__(
        self, reports: Reports, state_dir: Path, accounts: Callable[[], dict[str, int]]
    ) -> None:
        self._reports = reports
        self._state_dir = state_dir
        self._accounts = accounts
        self._backlog = Backlog(state_dir)
        self._full = _Trouble(
            "disk_full",
            "The disk of the bridge is nearly full: nothing new is taken from WhatsApp until there "
            "is room.",
        )
        self._late = _Trouble(
            "events_waiting", "Events wait on the disk of the bridge and are not recorded."
        )

    async def __call__(self) -> dict[str, Any]:
        """Counts, after trouble was told.

        Raises:
            SupabaseUnavailable: there is trouble, and it cannot be told yet.
        """
        try:
            waiting, free = await anyio.to_thread.run_sync(self._look)
        except OSError as error:
            # the host lives, and what needs the disk says so by itself
            logger.error("The journals on the disk cannot be read", error=type(error).__name__)
            return dict(self._accounts())
        load = self._accounts() | {
            "spooled_events": waiting.events,
            "spooled_bytes": waiting.size_bytes,
            "oldest_spooled_s": round(waiting.oldest_s),
            "disk_free_bytes": free,
        }
        context = {name: load[name] for name in ("spooled_events", "oldest_spooled_s")}
        await self._full.now(free < MIN_FREE_BYTES, self._reports, {"disk_free_bytes": free})
        await self._late.now(waiting.oldest_s > LATE_S, self._reports, context)
        return load

    def _look(self) -> tuple[Waiting, int]:
        return self._backlog.look(), free_bytes(self._state_dir)
