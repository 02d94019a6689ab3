"""One circuit breaker a host: while Supabase is away, one request at a time asks if it is back.

Fifty sessions that each try again by themselves would hammer a gateway that is just getting up.
After a few faults in a row the circuit is open: requests wait at `enter`, one of them goes through
now and then (drawn with full jitter, because other hosts ask, too), and the first answer lets all
go on. What must not wait (the renewal of leases) goes past it, and its answer counts as well.
"""

from __future__ import annotations

import email.utils
import random
from collections.abc import Mapping

import anyio
from loguru import logger

from bridge.errors import SupabaseUnavailable
from bridge.supabase.patience import Backoff, SupabaseRests

OPENS_AFTER = 3
FIRST_PROBE_S, MOST_PROBE_S, LEAST_PROBE_S = 0.25, 3.0, 0.2
# A probe without an answer for so long is no reason for others not to ask.
PROBE_S = 3.0
# So long a request waits here; then its caller is told, and comes again if it likes.
PATIENCE_S = 1.0
# When Supabase is back, those who waited do not all come in the same moment.
SPREAD_S = 0.5
MOST_RETRY_AFTER_S = 60.0


class Breaker:
    """Whether requests may leave. Used from one event loop."""

    def __init__(self) -> None:
        self._backoff = Backoff(FIRST_PROBE_S, MOST_PROBE_S, least_s=LEAST_PROBE_S)
        self._faults = 0
        self._opened_at: float | None = None
        self._reason = ""
        self._probe_at = 0.0
        self._held_until = 0.0
        self._changed = anyio.Event()

    @property
    def is_open(self) -> bool:
        """Whether requests wait."""
        return self._opened_at is not None

    async def enter(self) -> bool:
        """Before a request: return when it may leave.

        Returns:
            True if it is the one that asks whether Supabase is back.

        Raises:
            SupabaseRests: Supabase is away, and it was not this request's turn to ask.
        """
        deadline = anyio.current_time() + PATIENCE_S
        has_waited = False
        while self._opened_at is not None:
            has_waited = True
            now = anyio.current_time()
            if now >= self._probe_at:
                self._probe_at = now + PROBE_S
                return True
            if now >= deadline:
                raise SupabaseRests(self._reason)
            changed = self._changed
            with anyio.move_on_after(min(self._probe_at, deadline) - now):
                await changed.wait()
        if has_waited:
            await anyio.sleep(random.uniform(0, SPREAD_S))  # noqa: S311 - no secret
        return False

    def succeeded(self) -> None:
        """An answer came, whatever it said of the request."""
        self._faults = 0
        if self._opened_at is None or anyio.current_time() < self._held_until:
            return
        away_s = anyio.current_time() - self._opened_at
        logger.info("Supabase is back", away_s=round(away_s, 1))
        self._opened_at = None
        self._backoff.reset()
        self._tell()

    def failed(
        self, fault: SupabaseUnavailable, *, is_probe: bool, retry_after_s: float | None = None
    ) -> None:
        """No answer, or one that says that Supabase cannot answer now.

        Args:
            fault: for the log.
            is_probe: what `enter` said of the request.
            retry_after_s: what the answer says.
        """
        now = anyio.current_time()
        self._faults += 1
        self._reason = fault.sentence
        if retry_after_s is not None:
            self._held_until = max(self._held_until, now + min(retry_after_s, MOST_RETRY_AFTER_S))
        if self._opened_at is None and (self._faults >= OPENS_AFTER or retry_after_s is not None):
            self._opened_at = now
            logger.warning("Supabase is away; requests wait", reason=self._reason)
            is_probe = True
        if is_probe:
            self._probe_at = now + self._backoff.next_delay_s()
        self._probe_at = max(self._probe_at, self._held_until)
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """What an answer says about when to come again; dates are those of the answering host."""
    told = headers.get("retry-after", "").strip()
    if told.isdecimal():
        return float(told[:9])
    try:
        until = email.utils.parsedate_to_datetime(told)
        now = email.utils.parsedate_to_datetime(headers.get("date", ""))
        return max(0.0, (until - now).total_seconds())
    except (TypeError, ValueError):
        return None
